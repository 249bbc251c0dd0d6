-- read_book: one reading of an account's order book serves all of its runs: this run reads it, is told it, or waits.
-- KEYS  1 engine:epoch  2 runtime:{run}  3 account:{id}:reading  4 account:{id}:book  5 account:{id}:awaits
-- ARGV  1 epoch  2 token  3 run  4 since when a reading counts, us, unless the run waits for one already: then since
--       it does  5 now, us, by the caller
--       6 until when the reader may take, us  7 what the run's client order ids begin with  8 what to wake it with
--       9 a reading asked before this tells the run nothing in any case, us
-- Reply {'told', when it was asked, us, the run's entries as JSON} | {'read'}: the caller reads, and tells
--       | {'waits', '1' where the last reading failed}: another reads; the run is woken once that is told
local token, run = ARGV[2], ARGV[3]
local known = redis.call('HMGET', KEYS[3], 'epoch', 'at', 'hints', 'by', 'until', 'failed', 'told')
local hint = tonumber(redis.call('HGET', KEYS[2], 'hinted') or '0')
-- A hint that came after the reading began is not answered by it.
local wanted = tonumber(redis.call('HGET', KEYS[2], 'book_wanted') or ARGV[4])
local since = math.max(math.min(tonumber(ARGV[4]), wanted), tonumber(ARGV[9]))
-- Nor is the run's last attempt in a reading that began before that was granted, whatever clock its reader goes by.
local granted = tonumber(redis.call('HGET', KEYS[2], 'readings') or '0')
local is_younger = tonumber(known[7] or '0') > granted
if known[1] == ARGV[1] and tonumber(known[2]) >= since and hint <= tonumber(known[3]) and is_younger then
  redis.call('HDEL', KEYS[2], 'book_wanted')
  return { 'told', known[2], redis.call('HGET', KEYS[4], ARGV[7]) or '[]' }
end
-- A reader who claims more time than readers have goes by a clock that is ahead: were it to die, all would wait for that.
local ends = tonumber(known[5] or '0')
local is_read = ends > tonumber(ARGV[5]) and ends <= tonumber(ARGV[6]) + 2000000
if known[4] and known[4] ~= token and is_read then
  redis.call('HSETNX', KEYS[2], 'book_wanted', ARGV[4])
  redis.call('HSET', KEYS[5], run, ARGV[8])
  return { 'waits', known[6] or '' }
end
redis.call('HDEL', KEYS[2], 'book_wanted')
redis.call('HSET', KEYS[3], 'by', token, 'until', ARGV[6], 'begun', (redis.call('HGET', KEYS[3], 'begun') or 0) + 1,
  'hints_before', redis.call('HGET', KEYS[3], 'hinted') or '0')
return { 'read' }
