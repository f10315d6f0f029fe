-- Nothing goes in any more; if asked, what nobody has is thrown away. Answers how many that were.
-- KEYS: stream, news, state, deadlines.  ARGV: group, generation, immediate (0 or 1).
if redis.call('EXISTS', KEYS[1]) == 0 or redis.call('HGET', KEYS[3], 'generation') ~= ARGV[2] then
  return redis.error_reply('GONE this queue was destroyed')
end
redis.call('HSET', KEYS[3], 'shutdown', 1)
local dropped = 0
if ARGV[3] == '1' then
  for _, back in ipairs(redis.call('ZRANGEBYSCORE', KEYS[4], 0, 0)) do
    redis.call('XACK', KEYS[1], ARGV[1], back)
    dropped = dropped + redis.call('XDEL', KEYS[1], back)
  end
  redis.call('ZREMRANGEBYSCORE', KEYS[4], 0, 0)
  local last
  for _, group in ipairs(redis.call('XINFO', 'GROUPS', KEYS[1])) do
    local about = {}
    for at = 1, #group, 2 do about[group[at]] = group[at + 1] end
    if about.name == ARGV[1] then last = about['last-delivered-id'] end
  end
  while true do
    local entries = redis.call('XRANGE', KEYS[1], '(' .. last, '+', 'COUNT', 500)
    if #entries == 0 then break end
    for _, entry in ipairs(entries) do dropped = dropped + redis.call('XDEL', KEYS[1], entry[1]) end
  end
end
redis.call('XADD', KEYS[2], 'MAXLEN', 1, '*', 'shut', 1)
return dropped
