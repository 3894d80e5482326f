-- Request: id. Answers the job's row and its history, of one moment. (A transaction would do, but for a Redis that is
-- full, which refuses transactions even to readers.)

return {whole(request.id), redis.call('LRANGE', history_key(request.id), 0, -1)}
