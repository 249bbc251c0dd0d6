-- note: the terminal record of an event that ended without a transition.
-- KEYS  1 engine:epoch
-- ARGV  1 epoch  2 run  3 event id  4 event type  5 outcome
note_event(ARGV[2], ARGV[3], ARGV[4], ARGV[5])
return 1
