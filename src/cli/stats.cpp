// stats: what containers use, once or live.
#include <array>
#include <cstdio>
#include <map>
#include <memory>
#include <optional>

#include "base/strings.hpp"
#include "cli/commands.hpp"
#include "cli/listing.hpp"
#include "cli/request.hpp"
#include "cli/screen.hpp"
#include "linux/event.hpp"

namespace caisson::cli {

namespace {

constexpr std::array columns = {
    Column{"BlockIO", "BLOCK I/O"}, Column{"CPUPerc", "CPU %"}, Column{"Container", "CONTAINER"}, Column{"ID", "CONTAINER ID"}, Column{"MemPerc", "MEM %"},
    Column{"MemUsage", "MEM USAGE / LIMIT"}, Column{"Name", "NAME"}, Column{"NetIO", "NET I/O"}, Column{"PIDs", "PIDS"},
};

std::string percent(double value) {
  std::array<char, 32> buffer{};
  std::snprintf(buffer.data(), buffer.size(), "%.2f%%", value);
  return buffer.data();
}

// docker's formula: the container's share of the time all processors had between the two readings, times their number.
Result<double> cpu_percent(const JsonView& sample) {
  struct Reading {
    double container = 0;
    double host = 0;
  };
  auto read = [](const JsonView& stats) -> Result<Reading> {
    Reading reading;
    JsonView usage = TRY_PLAIN(stats.at("cpu_usage"));
    TRY_PLAIN(usage.read("total_usage", reading.container));
    TRY_PLAIN(stats.read("system_cpu_usage", reading.host));
    return reading;
  };
  JsonView now_view = TRY_PLAIN(sample.at("cpu_stats"));
  JsonView before_view = TRY_PLAIN(sample.at("precpu_stats"));
  Reading now = TRY_PLAIN(read(now_view));
  Reading before = TRY_PLAIN(read(before_view));
  double processors = 1;
  TRY_PLAIN(now_view.read("online_cpus", processors));
  if (now.host <= before.host || now.container <= before.container || before.host == 0) return 0.0;
  return (now.container - before.container) / (now.host - before.host) * processors * 100;
}

struct Memory {
  std::uint64_t used = 0;
  std::uint64_t limit = 0;
};
// Page cache that can be dropped does not count: cgroup v1 calls it cache (total_inactive_file), v2 inactive_file.
Result<Memory> memory_of(const JsonView& sample) {
  Memory memory;
  JsonView view = TRY_PLAIN(sample.at("memory_stats"));
  TRY_PLAIN(view.read("usage", memory.used));
  TRY_PLAIN(view.read("limit", memory.limit));
  JsonView details = TRY_PLAIN(view.at("stats"));
  std::uint64_t droppable = 0;
  TRY_PLAIN(details.read("inactive_file", droppable));
  TRY_PLAIN(details.read("total_inactive_file", droppable));
  if (droppable < memory.used) memory.used -= droppable;
  return memory;
}

Result<std::string> network_of(const JsonView& sample) {
  std::uint64_t received = 0;
  std::uint64_t sent = 0;
  JsonView networks = TRY_PLAIN(sample.at("networks"));
  TRY_PLAIN(networks.for_each_member([&](std::string_view, const JsonView& network) -> Status {
    std::uint64_t in = 0;
    std::uint64_t out = 0;
    TRY_PLAIN(network.read("rx_bytes", in));
    TRY_PLAIN(network.read("tx_bytes", out));
    received += in;
    sent += out;
    return {};
  }));
  return concat(human_size(received), " / ", human_size(sent));
}

Result<std::string> block_io_of(const JsonView& sample) {
  std::uint64_t in = 0;
  std::uint64_t out = 0;
  JsonView stats = TRY_PLAIN(sample.at("blkio_stats"));
  JsonView entries = TRY_PLAIN(stats.at("io_service_bytes_recursive"));
  TRY_PLAIN(entries.for_each_element([&](const JsonView& entry) -> Status {
    std::string operation;
    std::uint64_t value = 0;
    TRY_PLAIN(entry.read("op", operation));
    TRY_PLAIN(entry.read("value", value));
    operation = lower(operation);
    (operation == "read" ? in : out) += operation == "read" || operation == "write" ? value : 0;
    return {};
  }));
  return concat(human_size(in), " / ", human_size(out));
}

Result<Row> stats_row(const JsonView& sample, const std::string& asked_name, bool no_trunc) {
  std::string id;
  std::string name;
  TRY_PLAIN(sample.read("id", id));
  TRY_PLAIN(sample.read("name", name));
  if (name.starts_with("/")) name.erase(0, 1);
  Memory memory = TRY_PLAIN(memory_of(sample));
  std::uint64_t processes = 0;
  JsonView pids = TRY_PLAIN(sample.at("pids_stats"));
  TRY_PLAIN(pids.read("current", processes));
  double share = memory.limit == 0 ? 0 : static_cast<double>(memory.used) / static_cast<double>(memory.limit) * 100;
  Row row;
  row.fields["BlockIO"] = TRY_PLAIN(block_io_of(sample));
  row.fields["CPUPerc"] = percent(TRY_PLAIN(cpu_percent(sample)));
  row.fields["Container"] = asked_name;
  row.fields["ID"] = no_trunc ? id : short_id(id);
  row.fields["MemPerc"] = percent(share);
  row.fields["MemUsage"] = concat(human_size_binary(memory.used), " / ", human_size_binary(memory.limit));
  row.fields["Name"] = name;
  row.fields["NetIO"] = TRY_PLAIN(network_of(sample));
  row.fields["PIDs"] = concat(processes);
  return row;
}

// A container's stream of samples, one JSON document per line.
struct Feed {
  std::string name;
  wire::Hijacked connection;
  std::unique_ptr<wire::Client> client;
  std::string buffer;
  std::optional<Row> latest;
  bool ended = false;
};

Result<std::vector<std::string>> names_to_show(Session& session, const Invocation& invocation) {
  if (!invocation.words().empty()) return invocation.words();
  Query query;
  query.add_if(invocation.flag("all"), "all");
  auto answer = TRY_PLAIN(session.get("/containers/json" + query.text()));
  std::vector<std::string> names;
  TRY_PLAIN(JsonView(answer).for_each_element([&](const JsonView& container) -> Status {
    std::string id;
    TRY_PLAIN(container.read("Id", id));
    names.push_back(invocation.flag("no-trunc") ? id : short_id(id));
    return {};
  }));
  return names;
}

Result<std::string> picture_of(const Output& out, const Invocation& invocation, const std::vector<Row>& rows) {
  ListFormat list;
  list.columns = columns;
  list.table = "{{.ID}}\t{{.Name}}\t{{.CPUPerc}}\t{{.MemUsage}}\t{{.MemPerc}}\t{{.NetIO}}\t{{.BlockIO}}\t{{.PIDs}}";
  list.format = invocation.text("format");
  return list_text(list, rows, out.has_colour());
}

Result<int> show_once(Session& session, const Invocation& invocation, const std::vector<std::string>& names) {
  // All are asked before the first answer is read: the daemon takes a second for two readings of each.
  std::vector<Feed> feeds;
  for (const auto& name : names) {
    Feed feed;
    feed.name = name;
    feed.client = TRY_PLAIN(session.connect());
    feeds.push_back(std::move(feed));
  }
  std::vector<Row> rows;
  for (auto& feed : feeds) TRY_PLAIN(session.open_stream(*feed.client, "GET", object_path("containers", feed.name, "stats?stream=0")));
  for (auto& feed : feeds) {
    std::string text = TRY(feed.client->read_all(), "read statistics");
    auto sample = TRY_PLAIN(parse_json(text, "statistics"));
    rows.push_back(TRY_PLAIN(stats_row(JsonView(sample), feed.name, invocation.flag("no-trunc"))));
  }
  session.out().write(TRY_PLAIN(picture_of(session.out(), invocation, rows)));
  return 0;
}

Status take_sample(Feed& feed, bool no_trunc) {
  std::string piece = TRY(feed.client->read_some(), concat("read statistics of ", feed.name));
  if (piece.empty()) {
    feed.ended = true;
    return {};
  }
  feed.buffer += piece;
  for (std::size_t end = feed.buffer.find('\n'); end != std::string::npos; end = feed.buffer.find('\n')) {
    std::string line = feed.buffer.substr(0, end);
    feed.buffer.erase(0, end + 1);
    if (trim(line).empty()) continue;
    auto sample = TRY_PLAIN(parse_json(line, "statistics"));
    feed.latest = TRY_PLAIN(stats_row(JsonView(sample), feed.name, no_trunc));
  }
  return {};
}

Result<Feed> open_feed(Session& session, const std::string& name) {
  Feed feed;
  feed.name = name;
  feed.client = TRY_PLAIN(session.connect());
  TRY_PLAIN(session.open_stream(*feed.client, "GET", object_path("containers", name, "stats?stream=1")));
  return feed;
}

// Starts of containers, for a screen that shows all of them.
class Arrivals {
 public:
  static Result<Arrivals> open(Session& session) {
    Arrivals arrivals;
    json::object filters;
    add_filter(filters, "type", "container");
    add_filter(filters, "event", "start");
    Query query;
    query.add_filters(filters);
    arrivals.client_ = TRY_PLAIN(session.connect());
    TRY_PLAIN(session.open_stream(*arrivals.client_, "GET", "/events" + query.text()));
    return arrivals;
  }
  [[nodiscard]] int fd() const { return client_->fd(); }
  /// Ids of what has started since. Errors: unavailable when the daemon has ended the stream.
  Result<std::vector<std::string>> take() {
    std::string piece = TRY(client_->read_some(), "read events");
    if (piece.empty()) return Error(ErrorKind::unavailable, "the daemon has ended the events");
    buffer_ += piece;
    std::vector<std::string> ids;
    for (std::size_t end = buffer_.find('\n'); end != std::string::npos; end = buffer_.find('\n')) {
      std::string line = buffer_.substr(0, end);
      buffer_.erase(0, end + 1);
      if (trim(line).empty()) continue;
      auto event = TRY_PLAIN(parse_json(line, "the daemon's event"));
      JsonView actor = TRY_PLAIN(JsonView(event).at("Actor"));
      std::string id;
      TRY_PLAIN(actor.read("ID", id));
      if (!id.empty()) ids.push_back(std::move(id));
    }
    return ids;
  }

 private:
  std::unique_ptr<wire::Client> client_;
  std::string buffer_;
};

Status add_arrivals(Session& session, Arrivals& arrivals, std::vector<Feed>& feeds, bool no_trunc) {
  for (const auto& id : TRY_PLAIN(arrivals.take())) {
    std::string name = no_trunc ? id : short_id(id);
    std::erase_if(feeds, [&](const Feed& feed) { return feed.name == name; });  // started again
    auto feed = open_feed(session, name);
    if (feed.ok()) feeds.push_back(std::move(*feed));
    else if (feed.error().kind() != ErrorKind::not_found) return std::move(feed).error();  // that short-lived ones have gone is no error
  }
  return {};
}

std::vector<Row> rows_of(const std::vector<Feed>& feeds) {
  std::vector<Row> rows;
  for (const auto& feed : feeds)
    if (feed.latest) rows.push_back(*feed.latest);
  return rows;
}

Status show(Session& session, const Invocation& invocation, std::optional<Screen>& screen, const std::vector<Row>& rows) {
  const std::string picture = TRY_PLAIN(picture_of(session.out(), invocation, rows));
  if (screen) return screen->draw(picture);
  session.out().write(picture);
  return session.out().flush();
}

Result<int> show_live(Session& session, const Invocation& invocation) {
  bool no_trunc = invocation.flag("no-trunc");
  std::optional<Arrivals> arrivals;
  if (invocation.words().empty()) arrivals = TRY_PLAIN(Arrivals::open(session));  // before the list: none is missed between the two
  std::vector<Feed> feeds;
  for (const auto& name : TRY_PLAIN(names_to_show(session, invocation))) feeds.push_back(TRY_PLAIN(open_feed(session, name)));
  std::optional<Screen> screen;
  if (Screen::is_possible(session.out())) screen.emplace(TRY_PLAIN(Screen::open(session.out())));
  constexpr int redraw_ms = 500;
  while (arrivals || !feeds.empty()) {
    std::vector<linux::PollEntry> entries;
    for (const auto& feed : feeds) entries.push_back({feed.client->fd(), POLLIN, 0});
    if (arrivals) entries.push_back({arrivals->fd(), POLLIN, 0});
    const std::size_t streams = entries.size();
    if (screen)
      for (const auto& entry : screen->poll_entries()) entries.push_back(entry);
    int ready = TRY_PLAIN(linux::poll(entries, redraw_ms));
    if (screen && ready > 0)
      if (auto code = TRY_PLAIN(screen->take(std::span(entries).subspan(streams)))) return *code;
    for (std::size_t i = 0; i < feeds.size() && ready > 0; ++i)
      if (entries[i].revents != 0) TRY_PLAIN(take_sample(feeds[i], no_trunc));
    if (arrivals && ready > 0 && entries[streams - 1].revents != 0) TRY_PLAIN(add_arrivals(session, *arrivals, feeds, no_trunc));
    std::erase_if(feeds, [](const Feed& feed) { return feed.ended; });
    auto rows = rows_of(feeds);
    if (rows.empty() && (!arrivals || !feeds.empty())) continue;  // the first readings are on their way
    TRY_PLAIN(show(session, invocation, screen, rows));
  }
  return 0;
}

}  // namespace

Result<int> show_stats(Session& session, const Invocation& invocation) {
  return invocation.flag("no-stream") ? show_once(session, invocation, TRY_PLAIN(names_to_show(session, invocation))) : show_live(session, invocation);
}

}  // namespace caisson::cli
