-- dead_letter: record a message nothing could be done with.
-- KEYS  1 engine:epoch
-- ARGV  1 epoch  2 record JSON
record('', ARGV[2])
return 1
