-- signal: write what must happen into the run, before anything is enqueued, locked or not.
-- KEYS  1 engine:epoch  2 runtime:{run}  3 due  4 tombstone:{run}
-- ARGV  1 epoch  2 run  3 changes JSON {set}  4 due, us  5 record JSON, or ''  6 '1': write only where absent
-- Reply 'ok' | 'gone' | 'unknown' | 'full': the run holds as much unread evidence as it may
local run = ARGV[2]
if redis.call('EXISTS', KEYS[2]) == 0 then
  if redis.call('EXISTS', KEYS[4]) == 1 then return 'gone' end
  return 'unknown'
end
local changes, full = cjson.decode(ARGV[3]), false
if redis.call('HLEN', KEYS[2]) > 400 then
  -- A flood of updates must not grow the run without end: the book tells the same.
  changes, full = { set = { dirty = '1' } }, true
end
for name, value in pairs(changes.set) do
  if ARGV[6] == '1' then redis.call('HSETNX', KEYS[2], name, value) else redis.call('HSET', KEYS[2], name, value) end
end
redis.call('HINCRBY', KEYS[2], 'signal_seq', 1)
redis.call('ZADD', KEYS[3], 'LT', ARGV[4], run)
if ARGV[5] ~= '' then record(run, ARGV[5]) end
return full and 'full' or 'ok'
