// logs: from the files, whether or not the container still runs.
#include "base/log.hpp"
#include "base/strings.hpp"
#include "engine/local_engine.hpp"
#include "engine/log_reader.hpp"

namespace caisson::engine {

Status LocalEngine::logs(const Caller& caller, const std::string& name, const LogOptions& options, LogSink& sink, Cancel cancel) {
  auto container = TRY_PLAIN(find_for(caller, Verb::container_logs, name));
  auto record = container->snapshot();
  std::string path = log_path_of(*record);
  if (!has_readable_log(record->info.spec)) return Error(ErrorKind::unsupported, "configured logging driver does not support reading");
  if (!options.follow) return read_log(path, options, sink, cancel, {});
  // Follows through restarts by policy; the end is when the container stays stopped.
  auto over = TRY_PLAIN(container->add_waiter(WaitCondition::not_running));
  return read_log(path, options, sink, cancel, Cancel{over->fd()});
}

Status LocalEngine::begin_shipping(const Record& record, LogShippers::Start start) {
  if (compresses_log(record.info.spec)) {
    // Without it the files stay plain: no reason to refuse a start.
    if (Status watched = compressor_.watch(log_path_of(record)); !watched.ok()) log_error("compression of logs", concat("container ", record.info.id), watched.error());
  }
  return shippers_.begin(record.info, log_path_of(record), start);
}

}  // namespace caisson::engine
