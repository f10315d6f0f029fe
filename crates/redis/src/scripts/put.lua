-- Puts an item, once for each token, unless the queue is full or shut down.
-- KEYS: stream, news, state, deadlines, token.  ARGV: group, generation, item as JSON,
-- how long the token is remembered (ms).
if redis.call('EXISTS', KEYS[1]) == 0 or redis.call('HGET', KEYS[3], 'generation') ~= ARGV[2] then
  return redis.error_reply('GONE this queue was destroyed')
end
if redis.call('EXISTS', KEYS[5]) == 1 then return 'put' end
if redis.call('HGET', KEYS[3], 'shutdown') then return 'shut' end
local maxsize = tonumber(redis.call('HGET', KEYS[3], 'maxsize'))
if maxsize > 0 then
  local pending = redis.call('XPENDING', KEYS[1], ARGV[1])[1]
  local back = redis.call('ZCOUNT', KEYS[4], 0, 0)
  if redis.call('XLEN', KEYS[1]) - pending + back >= maxsize then return 'full' end
end
-- First what can be refused: a put that fails has put nothing.
redis.call('SET', KEYS[5], 1, 'PX', ARGV[4])
redis.call('XADD', KEYS[1], '*', 'json', ARGV[3])
return 'put'
