-- sweep: take the runs that are due and move each ahead by its backoff, so a backlog is not enqueued again and again.
-- KEYS  1 engine:epoch  2 due
-- ARGV  1 epoch  2 at most this many  3 longest backoff, us
--       4 slack, us: how long timers and listeners are left to be first
--       5 now, us, by the caller's clock: every score in `due` is told by the engine's, not by the server's
-- Reply a list of {run, runtime fields, strategy fields, nudges}; the backoff is 1, 2, 4 ... s
local now = tonumber(ARGV[5])
local swept = {}
for _, run in ipairs(redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', now - tonumber(ARGV[4]), 'LIMIT', 0, ARGV[2])) do
  local runtime = 'runtime:' .. run
  if redis.call('EXISTS', runtime) == 0 then
    redis.call('ZREM', KEYS[2], run)
  else
    local nudges = redis.call('HINCRBY', runtime, 'nudges', 1)
    local backoff = math.min(1000000 * 2 ^ math.min(nudges - 1, 10), tonumber(ARGV[3]))
    redis.call('ZADD', KEYS[2], string.format('%d', now + backoff), run)
    swept[#swept + 1] = { run, fields_of(runtime),
      redis.call('HGETALL', 'strategy:' .. (redis.call('HGET', runtime, 'strategy_id') or '')), nudges }
  end
end
return swept
