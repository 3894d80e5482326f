-- For how long the waiting job that may start longest has been free to. Answers microseconds, 0 where there is none.

while true do
  local first = redis.call('ZRANGE', WAITS, 0, 0, 'WITHSCORES')
  if not first[1] then
    return 0
  end
  if redis.call('EXISTS', job_key(first[1])) == 1 then
    return math.max(0, now - tonumber(first[2]))
  end
  -- A row that is gone (evicted, or deleted by hand) would wait for ever.
  redis.call('ZREM', WAITS, first[1])
end
