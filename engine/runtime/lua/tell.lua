-- tell: record what concerns no run: a message nothing could be done with, an alert.
-- KEYS  1 engine:epoch
-- ARGV  1 epoch  2 record JSON  3 tenant, or ''
record('', ARGV[2], false, ARGV[3])
return 1
