-- What a worker says of an item that it has: done, more time, or back into the queue.
-- KEYS: stream, news, state, deadlines.  ARGV: group, generation, worker, id, times delivered,
-- 'done' | 'extend' | 'back', ms.
if redis.call('EXISTS', KEYS[1]) == 0 or redis.call('HGET', KEYS[3], 'generation') ~= ARGV[2] then
  return redis.error_reply('GONE this queue was destroyed')
end
local held = redis.call('XPENDING', KEYS[1], ARGV[1], ARGV[4], ARGV[4], 1)[1]
if not held then
  -- Done before, by this call's first try or by another worker that got the item too.
  return redis.call('XRANGE', KEYS[1], ARGV[4], ARGV[4])[1] and 'lost' or 'finished'
end
if held[2] ~= ARGV[3] or held[4] ~= tonumber(ARGV[5]) then return 'lost' end
if ARGV[6] == 'done' then
  redis.call('XACK', KEYS[1], ARGV[1], ARGV[4])
  redis.call('XDEL', KEYS[1], ARGV[4])
  redis.call('ZREM', KEYS[4], ARGV[4])
  if redis.call('XLEN', KEYS[1]) == 0 then redis.call('XADD', KEYS[2], 'MAXLEN', 1, '*', 'idle', 1) end
elseif ARGV[6] == 'extend' then
  local clock = redis.call('TIME')
  redis.call('ZADD', KEYS[4], clock[1] * 1000 + math.floor(clock[2] / 1000) + ARGV[7], ARGV[4])
else
  redis.call('ZADD', KEYS[4], 0, ARGV[4]) -- it waits again
  redis.call('XADD', KEYS[2], 'MAXLEN', 1, '*', 'back', 1)
end
return 'ours'
