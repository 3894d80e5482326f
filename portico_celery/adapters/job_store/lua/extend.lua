-- Renew a lease. Request: id, attempt, lease (microseconds). Answers 1, or 0 where the attempt no longer holds the job.

if not held() then
  return 0
end
even_when_full()
redis.call('ZADD', LEASES, now + request.lease, request.id)
return 1
