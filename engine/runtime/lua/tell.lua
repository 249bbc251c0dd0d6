-- tell: record what concerns no run: a message nothing could be done with, an alert.
-- KEYS  1 engine:epoch
-- ARGV  1 epoch  2 record JSON  3 tenant, or ''  4 a name under which it is recorded only once, or ''  5 for how long, ms
-- Reply 1, or 0 where it was recorded before
if ARGV[4] ~= '' and not redis.call('SET', 'told:' .. ARGV[4], 1, 'NX', 'PX', ARGV[5]) then return 0 end
record('', ARGV[2], false, ARGV[3])
return 1
