-- extend: keep a run while its holder waits for a broker's answer to a read or a cancel.
-- KEYS  1 engine:epoch  2 lock_state:{run}  3 runtime:{run}
-- ARGV  1 epoch  2 token  3 lease, ms  4 run
-- Reply 'held' | 'lost' | 'full': the account has no free slot, and nothing was changed
if redis.call('GET', KEYS[2]) ~= ARGV[2] then return 'lost' end
if not keep_slot('account:' .. redis.call('HGET', KEYS[3], 'account_id'), ARGV[4], ARGV[3]) then return 'full' end
redis.call('PEXPIRE', KEYS[2], ARGV[3])
return 'held'
