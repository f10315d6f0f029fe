-- Takes an item: first what a worker has not finished in time, then what nobody has had.
-- KEYS: stream, news, state, deadlines.  ARGV: group, generation, worker, visibility (ms).
-- Answers {'item', id, times delivered, fields} or {'shut'} or {'empty', ms until the next one is due, -1: none}.
if redis.call('EXISTS', KEYS[1]) == 0 or redis.call('HGET', KEYS[3], 'generation') ~= ARGV[2] then
  return redis.error_reply('GONE this queue was destroyed')
end
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local until_due = -1
local function taken(id)
  redis.call('ZADD', KEYS[4], now + ARGV[4], id)
  if tonumber(redis.call('HGET', KEYS[3], 'maxsize')) > 0 then
    redis.call('XADD', KEYS[2], 'MAXLEN', 1, '*', 'room', 1)
  end
end
while true do
  local first = redis.call('ZRANGE', KEYS[4], 0, 0, 'WITHSCORES')
  if not first[1] then break end
  if tonumber(first[2]) > now then
    until_due = tonumber(first[2]) - now
    break
  end
  local claimed = redis.call('XCLAIM', KEYS[1], ARGV[1], ARGV[3], 0, first[1])
  if claimed[1] then
    taken(first[1])
    local times = redis.call('XPENDING', KEYS[1], ARGV[1], first[1], first[1], 1)[1][4]
    return {'item', first[1], times, claimed[1][2]}
  end
  -- Somebody has deleted the entry behind our back.
  redis.call('XACK', KEYS[1], ARGV[1], first[1])
  redis.call('ZREM', KEYS[4], first[1])
end
local read = redis.call('XREADGROUP', 'GROUP', ARGV[1], ARGV[3], 'COUNT', 1, 'STREAMS', KEYS[1], '>')
if read and read[1] then
  local entry = read[1][2][1]
  taken(entry[1])
  return {'item', entry[1], 1, entry[2]}
end
if redis.call('HGET', KEYS[3], 'shutdown') and redis.call('XLEN', KEYS[1]) == 0 then return {'shut'} end
return {'empty', until_due}
