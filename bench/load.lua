-- Sends prepared requests in order, round and round; reports as one line of JSON.
-- Arguments: the file of requests (a line each: path, then name: value, split by tabs),
-- and how long every body must be, or -1; the latter only matters to count.lua.

local prepared, count, current = {}, 0, 0
local threads = {}

function setup(thread)
   threads[#threads + 1] = thread
end

function init(args)
   for line in io.lines(args[1]) do
      local path, fields = nil, {}
      for part in line:gmatch("[^\t]+") do
         if path == nil then
            path = part
         else
            local name, value = part:match("^(.-): (.*)$")
            fields[name] = value
         end
      end
      for name, value in pairs(wrk.headers) do
         fields[name] = fields[name] or value
      end
      prepared[#prepared + 1] = wrk.format("GET", path, fields)
   end
   count = #prepared
   wanted_bytes = tonumber(args[2])
end

function request()
   current = current + 1
   if current > count then
      current = 1
   end
   return prepared[current]
end

function done(summary, latency)
   local statuses = {}
   local wrong_bytes = 0
   for _, thread in ipairs(threads) do
      for status, times in pairs(thread:get("statuses") or {}) do
         statuses[#statuses + 1] = string.format('"%d": %d', status, times)
      end
      wrong_bytes = wrong_bytes + (thread:get("wrong_bytes") or 0)
   end
   local errors = summary.errors
   io.write(string.format(
      '\n{"requests": %d, "duration_us": %d, "bytes": %d, "p50_us": %d, "p99_us": %d, ' ..
      '"errors": {"connect": %d, "read": %d, "write": %d, "timeout": %d, "status": %d}, ' ..
      '"statuses": {%s}, "wrong_bytes": %d}\n',
      summary.requests, summary.duration, summary.bytes, latency:percentile(50), latency:percentile(99),
      errors.connect, errors.read, errors.write, errors.timeout, errors.status,
      table.concat(statuses, ", "), wrong_bytes))
end
