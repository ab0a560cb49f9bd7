// /containers/{id}/wait, logs, attach and stats: answers that last.
#include <algorithm>
#include <chrono>
#include <thread>

#include "api/create_body.hpp"
#include "api/handlers.hpp"
#include "api/json_out.hpp"
#include "api/stream_frames.hpp"
#include "base/strings.hpp"
#include "base/time.hpp"
#include "linux/event.hpp"
#include "linux/stream_socket.hpp"
#include "wire/websocket.hpp"

namespace caisson::api {

void append_frame(std::string& out, StreamId stream, std::string_view payload) {
  const auto size = static_cast<std::uint32_t>(payload.size());
  out += static_cast<char>(stream);
  out.append(3, '\0');
  for (int shift : {24, 16, 8, 0}) out += static_cast<char>((size >> shift) & 0xff);
  out += payload;
}

std::string_view stream_content_type(const Request& request, bool framed) {
  return framed && request.version >= version_1_42 ? "application/vnd.docker.multiplexed-stream" : "application/vnd.docker.raw-stream";
}

std::string hijack_head(const Request& request, bool framed) {
  if (!request.wants_upgrade()) return "HTTP/1.1 200 OK\r\nContent-Type: application/vnd.docker.raw-stream\r\n\r\n";
  std::string head = concat("HTTP/1.1 101 UPGRADED\r\nContent-Type: ", stream_content_type(request, framed), "\r\n");
  for (const auto& [name, value] : common_headers()) head += concat(name, ": ", value, "\r\n");
  return head + "Connection: Upgrade\r\nUpgrade: tcp\r\n\r\n";
}

namespace {
/// Python's clients (docker-py, docker-sdk-python, and compose 1 with them) read the head through a buffer and the stream behind it past that buffer: what comes
/// together with the head is lost to them. Docker's daemon is merely too slow to show it.
bool loses_what_comes_with_the_head(std::string_view user_agent) { return user_agent.find("docker-sdk-python") != std::string_view::npos || user_agent.find("docker-py") != std::string_view::npos; }

/// Until the client has read the head, a second at most: it may be about to read, or be gone.
void wait_until_read(int socket) {
  constexpr auto step = std::chrono::milliseconds(1);
  constexpr int most_steps = 1000;
  for (int i = 0; i < most_steps; ++i) {
    auto unread = linux::unread_bytes(socket);
    if (!unread.ok() || *unread == 0) break;
    std::this_thread::sleep_for(step);
  }
  // TCP tells only that it has arrived there.
  constexpr auto grace = std::chrono::milliseconds(20);
  if (!linux::is_unix_socket(socket)) std::this_thread::sleep_for(grace);
}
}  // namespace

Result<wire::Hijacked> hijack_stream(Request& request, bool framed) {
  auto taken = TRY_PLAIN(request.exchange.hijack(hijack_head(request, framed)));
  if (loses_what_comes_with_the_head(request.exchange.header("User-Agent"))) wait_until_read(taken.socket.get());
  return taken;
}

// -- wait

Status wait_container(Request& request) {
  const std::string text = request.query.text("condition");
  auto condition = engine::WaitCondition::not_running;
  if (text == "next-exit")
    condition = engine::WaitCondition::next_exit;
  else if (text == "removed")
    condition = engine::WaitCondition::removed;
  else if (!text.empty() && text != "not-running")
    return Error(ErrorKind::invalid, concat("invalid condition: \"", text, "\""));
  auto waiter = TRY_PLAIN(request.engine.begin_wait(request.caller, request.name, condition));
  // The CLI starts the container only after it has seen this head.
  TRY_PLAIN(request.begin(200, "application/json"));
  auto result = waiter->wait(request.exchange.cancel());
  if (!result.ok() && result.error().kind() == ErrorKind::timeout) return {};  // the client left; the connection ends
  json::object body;
  if (result.ok()) {
    body["StatusCode"] = result->exit_code;
    if (!result->error.empty()) body["Error"] = json::object{{"Message", result->error}};
  } else {
    body["StatusCode"] = 0;
    body["Error"] = json::object{{"Message", result.error().text()}};
  }
  TRY_PLAIN(request.exchange.write(to_text(body) + "\n"));
  return request.exchange.end();
}

// -- logs

namespace {

/// Frames records and sends them in as few writes as the reader's pauses allow.
class LogWriter final : public engine::LogSink {
 public:
  struct Extras {
    bool timestamps = false;
    bool details = false;
  };
  LogWriter(wire::Exchange& exchange, bool framed, Extras extras) : exchange_(exchange), framed_(framed), extras_(extras) {}

  Status write(const engine::LogRecord& record) override {
    std::string stamp = extras_.timestamps ? concat(to_rfc3339(record.time), " ") : std::string();
    if (extras_.details) stamp += concat(record.attributes, " ");
    if (framed_)
      append_frame(buffer_, record.stream == engine::LogStream::standard_error ? StreamId::standard_error : StreamId::standard_output,
                   concat(stamp, record.text));
    else
      buffer_ += concat(stamp, record.text);
    if (buffer_.size() >= flush_bytes) return flush();
    return {};
  }
  Status flush() override {
    if (buffer_.empty()) return {};
    auto sent = exchange_.write(buffer_);
    buffer_.clear();
    return sent;
  }

 private:
  static constexpr std::size_t flush_bytes = 32 << 10;
  wire::Exchange& exchange_;
  bool framed_;
  Extras extras_;
  std::string buffer_;
};

Result<TimestampNs> log_time(const Query& query, std::string_view name) {
  const std::string text = query.text(name);
  if (text.empty() || text == "0") return TimestampNs{0};
  return TRY(parse_point_in_time(text, now_ns()), concat("query parameter ", name));
}

Result<engine::LogOptions> log_options(const Query& query) {
  engine::LogOptions options;
  options.standard_output = query.flag("stdout");
  options.standard_error = query.flag("stderr");
  if (!options.standard_output && !options.standard_error)
    return Error(ErrorKind::invalid, "Bad parameters: you must choose at least one stream");
  options.since = TRY_PLAIN(log_time(query, "since"));
  options.until = TRY_PLAIN(log_time(query, "until"));
  options.follow = query.flag("follow");
  // "all", and anything that is no number, means everything (Docker's own rule).
  if (auto tail = parse_integer<std::int64_t>(query.text("tail")); tail.ok() && *tail >= 0) options.tail = static_cast<std::uint64_t>(*tail);
  return options;
}

}  // namespace

Status stream_logs(Request& request) {
  auto info = TRY_PLAIN(request.engine.inspect(request.caller, request.name, false));
  auto options = TRY_PLAIN(log_options(request.query));
  if (!info.has_logs)
    return Error(ErrorKind::unsupported, "configured logging driver does not support reading");
  const bool framed = !info.spec.tty;
  TRY_PLAIN(request.begin(200, stream_content_type(request, framed)));
  LogWriter writer(request.exchange, framed, {request.query.flag("timestamps"), request.query.flag("details")});
  // The full id: a name may pass to another container while this one is followed.
  auto outcome = request.engine.logs(request.caller, info.id, options, writer, request.exchange.cancel());
  if (outcome.ok()) outcome = writer.flush();
  if (outcome.ok()) return request.exchange.end();
  if (outcome.error().kind() != ErrorKind::timeout) {
    // Too late for a status; Docker puts the text into the stream.
    std::string text;
    append_frame(text, StreamId::standard_error, concat("Error grabbing logs: ", outcome.error().text(), "\n"));
    ignore(request.exchange.write(framed ? std::string_view(text) : std::string_view(text).substr(8)));  // the client may be what failed
  }
  return request.exchange.end();
}

// -- attach

namespace {
engine::AttachOptions attach_options(const Query& query, std::string detach_keys) {
  engine::AttachOptions options;
  options.stream = query.flag("stream");
  options.logs = query.flag("logs");
  options.request.with_stdin = query.flag("stdin");
  options.request.with_stdout = query.flag("stdout");
  options.request.with_stderr = query.flag("stderr");
  options.request.detach_keys = std::move(detach_keys);
  return options;
}
}  // namespace

Status attach_container(Request& request) {
  // Clients of this call read errors as plain text.
  auto refuse = [&](const Error& error) {
    wire::Headers headers{{"Content-Type", "application/vnd.docker.raw-stream"}, {"Connection", "close"}};
    return request.exchange.respond(http_status(error.kind()), headers, error.text());
  };
  auto info = request.engine.inspect(request.caller, request.name, false);
  if (!info.ok()) return refuse(info.error());
  auto keys = parse_detach_keys(request.query.text("detachKeys"));
  if (!keys.ok()) return refuse(keys.error());

  auto options = attach_options(request.query, *keys);
  const bool framed = !info->spec.tty;
  options.connect = [&](runtime::AttachRequest& attach) -> Status {
    auto taken = TRY_PLAIN(hijack_stream(request, framed));
    attach.client = std::move(taken.socket);
    attach.pending_input = std::move(taken.pending);
    return {};
  };
  auto outcome = request.engine.attach(request.caller, info->id, std::move(options));
  // After the hijack the stream has been closed by whoever held it: there is nobody to tell.
  if (!outcome.ok() && !request.exchange.answered()) return refuse(outcome.error());
  return outcome;
}

Status attach_websocket(Request& request) {
  auto info = TRY_PLAIN(request.engine.inspect(request.caller, request.name, false));
  auto keys = TRY_PLAIN(parse_detach_keys(request.query.text("detachKeys")));
  auto head = TRY_PLAIN(wire::websocket_head(request.exchange, common_headers()));
  auto options = attach_options(request.query, std::move(keys));
  options.raw = true;
  // Text before 1.28, because Docker had it so.
  const auto code = request.version < version_1_28 ? wire::WebSocketCode::text : wire::WebSocketCode::binary;
  options.connect = [&](runtime::AttachRequest& attach) -> Status {
    attach.client = TRY_PLAIN(request.exchange.hijack_through(head, wire::create_websocket_codec(code)));
    return {};
  };
  return request.engine.attach(request.caller, info.id, std::move(options));
}

// -- stats

namespace {

json::object cpu_json(const engine::ContainerStats& stats) {
  const auto& cgroup = stats.cgroup;
  json::object usage{{"total_usage", cgroup.cpu_total_ns}};
  if (!cgroup.per_cpu_ns.empty()) {
    json::array per_cpu;
    for (auto value : cgroup.per_cpu_ns) per_cpu.push_back(value);
    usage["percpu_usage"] = std::move(per_cpu);
  }
  usage["usage_in_kernelmode"] = cgroup.cpu_system_ns;
  usage["usage_in_usermode"] = cgroup.cpu_user_ns;
  json::object out{{"cpu_usage", std::move(usage)}};
  if (stats.running) {
    out["system_cpu_usage"] = stats.system_cpu_ns;
    out["online_cpus"] = stats.online_cpus;
  }
  out["throttling_data"] = json::object{
      {"periods", cgroup.periods}, {"throttled_periods", cgroup.throttled_periods}, {"throttled_time", cgroup.throttled_ns}};
  return out;
}

json::object memory_json(const engine::ContainerStats& stats) {
  if (!stats.running) return {};
  json::object detail;
  for (const auto& [key, value] : stats.cgroup.memory_stat) detail[key] = value;
  json::object out{{"usage", stats.cgroup.memory_usage_bytes}};
  if (stats.cgroup.memory_max_usage_bytes != 0) out["max_usage"] = stats.cgroup.memory_max_usage_bytes;
  out["stats"] = std::move(detail);
  out["limit"] = stats.cgroup.memory_limit_bytes;
  return out;
}

json::value block_io_json(const engine::ContainerStats& stats) {
  json::array bytes;
  if (stats.running) {
    bytes.push_back(json::object{{"major", 0}, {"minor", 0}, {"op", "read"}, {"value", stats.cgroup.block_read_bytes}});
    bytes.push_back(json::object{{"major", 0}, {"minor", 0}, {"op", "write"}, {"value", stats.cgroup.block_write_bytes}});
  }
  json::object out{{"io_service_bytes_recursive", bytes.empty() ? json::value(nullptr) : json::value(std::move(bytes))}};
  for (auto key : {"io_serviced_recursive", "io_queue_recursive", "io_service_time_recursive", "io_wait_time_recursive", "io_merged_recursive",
                   "io_time_recursive", "sectors_recursive"})
    out[key] = nullptr;
  return out;
}

json::object networks_json(const engine::ContainerStats& stats) {
  json::object out;
  for (const auto& [name, counters] : stats.networks)
    out[name] = json::object{{"rx_bytes", counters.rx_bytes},   {"rx_packets", counters.rx_packets}, {"rx_errors", counters.rx_errors},
                             {"rx_dropped", counters.rx_dropped}, {"tx_bytes", counters.tx_bytes},   {"tx_packets", counters.tx_packets},
                             {"tx_errors", counters.tx_errors}, {"tx_dropped", counters.tx_dropped}};
  return out;
}

json::object stats_json(const engine::ContainerStats& now, const engine::ContainerStats& before) {
  json::object pids;
  if (now.running) pids = {{"current", now.cgroup.pids}, {"limit", now.cgroup.pids_limit == 0 ? ~std::uint64_t{0} : now.cgroup.pids_limit}};
  json::object out{{"read", to_rfc3339(now.cgroup.read_at)},
                   {"preread", to_rfc3339(before.cgroup.read_at)},
                   {"pids_stats", std::move(pids)},
                   {"blkio_stats", block_io_json(now)},
                   {"num_procs", 0},
                   {"storage_stats", json::object()},
                   {"cpu_stats", cpu_json(now)},
                   {"precpu_stats", cpu_json(before)},
                   {"memory_stats", memory_json(now)},
                   {"name", slashed(now.name)},
                   {"id", now.id}};
  if (!now.networks.empty()) out["networks"] = networks_json(now);
  return out;
}

constexpr int stats_interval_ms = 1000;

}  // namespace

Status stream_stats(Request& request) {
  const bool stream = request.query.flag("stream", true);
  if (stream && request.query.flag("one-shot")) return Error(ErrorKind::invalid, "cannot have stream=true and one-shot=true");
  auto read = [&] { return request.engine.stats(request.caller, request.name); };
  const int client = request.exchange.cancel().fd;
  engine::ContainerStats before;
  auto now = TRY_PLAIN(read());
  if (!stream) {
    // Two samples one second apart, so that a client can tell the load from one answer.
    if (now.running && !request.query.flag("one-shot")) {
      if (TRY_PLAIN(linux::wait_readable(client, stats_interval_ms))) return {};
      before = std::exchange(now, TRY_PLAIN(read()));
    }
    return request.reply_json(200, stats_json(now, before));
  }
  TRY_PLAIN(request.begin(200, "application/json"));
  for (;;) {
    TRY_PLAIN(request.exchange.write(to_text(stats_json(now, before)) + "\n"));
    if (TRY_PLAIN(linux::wait_readable(client, stats_interval_ms))) return {};
    auto next = read();
    if (!next.ok()) return request.exchange.end();  // removed meanwhile
    before = std::exchange(now, std::move(*next));
  }
}

}  // namespace caisson::api
