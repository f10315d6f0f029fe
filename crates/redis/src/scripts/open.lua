-- Makes the queue, or finds it.
-- KEYS: stream, news, state, deadlines.  ARGV: group, maxsize, how long an idle worker is remembered (ms).
local made = redis.pcall('XGROUP', 'CREATE', KEYS[1], ARGV[1], '0', 'MKSTREAM')
if type(made) == 'table' and made.err and not string.find(made.err, 'BUSYGROUP') then
  return made
end
redis.call('HSETNX', KEYS[3], 'maxsize', ARGV[2])
for _, worker in ipairs(redis.call('XINFO', 'CONSUMERS', KEYS[1], ARGV[1])) do
  local about = {}
  for at = 1, #worker, 2 do about[worker[at]] = worker[at + 1] end
  if about.pending == 0 and about.idle > tonumber(ARGV[3]) then
    redis.call('XGROUP', 'DELCONSUMER', KEYS[1], ARGV[1], about.name)
  end
end
-- As it is written: Lua's numbers are exact up to 2^53 only.
return redis.call('HGET', KEYS[3], 'maxsize')
