-- cover: keep what an account holds, for the exits of its runs to be measured by; each run sees it when it is loaded.
-- KEYS  1 engine:epoch  2 account:{id}:held
-- ARGV  1 epoch  2 when the broker was asked, us  then for each holding: "symbol product", units
-- A symbol that is not named is not held; an older word than the one kept is dropped
if tonumber(redis.call('HGET', KEYS[2], 'at') or '0') >= tonumber(ARGV[2]) then return 0 end
redis.call('DEL', KEYS[2])
redis.call('HSET', KEYS[2], 'at', ARGV[2])
for i = 3, #ARGV, 2 do redis.call('HSET', KEYS[2], ARGV[i], ARGV[i + 1]) end
return 1
