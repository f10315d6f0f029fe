-- Makes the queue, or finds it. Answers {generation, maxsize}.
-- KEYS: stream, news, state, deadlines.  ARGV: group, generation if it is made, maxsize, how long an idle worker is
-- remembered (ms).
local made = redis.pcall('XGROUP', 'CREATE', KEYS[1], ARGV[1], '0', 'MKSTREAM')
if not made.err then
  redis.call('DEL', KEYS[3], KEYS[4]) -- of one whose stream was deleted by hand
elseif not string.find(made.err, 'BUSYGROUP') then
  return made
end
redis.call('HSETNX', KEYS[3], 'generation', ARGV[2])
redis.call('HSETNX', KEYS[3], 'maxsize', ARGV[3])
for _, worker in ipairs(redis.call('XINFO', 'CONSUMERS', KEYS[1], ARGV[1])) do
  local about = {}
  for at = 1, #worker, 2 do about[worker[at]] = worker[at + 1] end
  if about.pending == 0 and about.idle > tonumber(ARGV[4]) then
    redis.call('XGROUP', 'DELCONSUMER', KEYS[1], ARGV[1], about.name)
  end
end
-- As it is written: Lua's numbers are exact up to 2^53 only.
return redis.call('HMGET', KEYS[3], 'generation', 'maxsize')
