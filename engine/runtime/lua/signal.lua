-- signal: write what must happen into the run, before anything is enqueued, locked or not.
-- KEYS  1 engine:epoch  2 runtime:{run}  3 due  4 tombstone:{run}
-- ARGV  1 epoch  2 run  3 changes JSON {set}  4 due, us  5 '1': evidence, which the book can tell as well
-- Reply 'ok' | 'gone' | 'unknown' | 'full': the run holds as much unread evidence as it may
local run = ARGV[2]
if redis.call('EXISTS', KEYS[2]) == 0 then
  if redis.call('EXISTS', KEYS[4]) == 1 then return 'gone' end
  return 'unknown'
end
local changes, full = cjson.decode(ARGV[3]), ARGV[5] == '1' and redis.call('HLEN', KEYS[2]) > 400
if full then
  -- A flood of updates must not grow the run without end.
  changes = { set = { dirty = '1' } }
end
write_fields(KEYS[2], changes)
local seq = redis.call('HINCRBY', KEYS[2], 'signal_seq', 1)
-- Numbered, so that a holder can tell a hint that came after its reading from the one it is answering.
if changes.set.dirty then redis.call('HSET', KEYS[2], 'dirty', seq) end
-- A reading of the account's book answers only the hints that came before it began.
local account = redis.call('HGET', KEYS[2], 'account_id') or ''
redis.call('HSET', KEYS[2], 'hinted', redis.call('HINCRBY', 'account:' .. account .. ':reading', 'hinted', 1))
redis.call('ZADD', KEYS[3], 'LT', ARGV[4], run)
if changes.set.stop_requested then
  -- A user's word outlives the live state.
  record(run, cjson.encode({ kind = 'stop_requested', stop_requested = changes.set.stop_requested }))
end
return full and 'full' or 'ok'
