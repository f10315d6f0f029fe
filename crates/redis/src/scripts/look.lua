-- KEYS: stream, news, state, deadlines.  ARGV: group, generation.
-- Answers {entries, of those with workers, shut down (0 or 1), last id of the stream, last id of the news}.
if redis.call('EXISTS', KEYS[1]) == 0 or redis.call('HGET', KEYS[3], 'generation') ~= ARGV[2] then
  return redis.error_reply('GONE this queue was destroyed')
end
local function last(key)
  if redis.call('EXISTS', key) == 0 then return '0-0' end
  local about = redis.call('XINFO', 'STREAM', key)
  for at = 1, #about, 2 do
    if about[at] == 'last-generated-id' then return about[at + 1] end
  end
end
return {
  redis.call('XLEN', KEYS[1]),
  redis.call('XPENDING', KEYS[1], ARGV[1])[1] - redis.call('ZCOUNT', KEYS[4], 0, 0),
  redis.call('HEXISTS', KEYS[3], 'shutdown'),
  last(KEYS[1]),
  last(KEYS[2]),
}
