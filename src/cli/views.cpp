// logs, top, stats, port and inspect.
#include <algorithm>
#include <array>

#include "base/strings.hpp"
#include "base/time.hpp"
#include "cli/attached.hpp"
#include "cli/commands.hpp"
#include "cli/listing.hpp"
#include "cli/platform.hpp"
#include "cli/request.hpp"
#include "cli/screen.hpp"
#include "cli/suggest.hpp"
#include "linux/event.hpp"

namespace caisson::cli {

namespace {

// docker sends "seconds.nanoseconds" for what it understood, and plain numbers as they were typed.
Result<std::string> point_in_time(std::string_view text) {
  if (!text.empty() && text.find_first_not_of("0123456789.") == std::string_view::npos) return std::string(text);
  constexpr std::int64_t second_ns = 1'000'000'000;
  TimestampNs time = TRY_PLAIN(parse_point_in_time(text, now_ns()));
  std::string fraction = concat(time % second_ns);
  return concat(time / second_ns, ".", std::string(9 - fraction.size(), '0'), fraction);
}

}  // namespace

Result<int> show_logs(Session& session, const Invocation& invocation) {
  auto document = TRY_PLAIN(session.get(object_path("containers", invocation.word(0), "json")));
  JsonView view(document);
  std::string id;
  bool tty = false;
  TRY_PLAIN(view.read("Id", id));
  JsonView config = TRY_PLAIN(view.at("Config"));
  TRY_PLAIN(config.read("Tty", tty));
  Query query;
  query.add_if(invocation.flag("details"), "details").add_if(invocation.flag("follow"), "follow");
  if (invocation.has("since")) query.add("since", TRY_PLAIN(point_in_time(invocation.text("since"))));
  query.add("stderr", "1").add("stdout", "1").add("tail", invocation.text("tail")).add_if(invocation.flag("timestamps"), "timestamps");
  if (invocation.has("until")) query.add("until", TRY_PLAIN(point_in_time(invocation.text("until"))));
  auto client = TRY_PLAIN(session.connect());
  TRY_PLAIN(session.open_stream(*client, "GET", object_path("containers", id, "logs") + query.text()));
  Demultiplexer frames;
  auto print = [&](int stream, std::string_view bytes) -> Status {
    Output& output = stream == 1 ? session.out() : session.err();
    output.write(bytes);
    return output.flush();
  };
  for (;;) {
    std::string piece = TRY(client->read_some(), "read the log");
    if (piece.empty()) return 0;
    if (tty) TRY_PLAIN(print(1, piece));
    else TRY_PLAIN(frames.feed(piece, print));
  }
}

namespace {

Result<std::string> process_table(Session& session, const std::string& target) {
  auto answer = TRY_PLAIN(session.get(target));
  JsonView view(answer);
  std::vector<std::string> titles;
  std::vector<std::vector<std::string>> rows;
  TRY_PLAIN(view.read("Titles", titles));
  TRY_PLAIN(view.read("Processes", rows));
  rows.insert(rows.begin(), titles);
  constexpr std::size_t top_column = 20;  // docker's, for this command only
  return align(rows, top_column);
}

// Anew every two seconds, and at once when a key asks for it; what ps calls processes is the host's work, so not more often.
Result<int> watch_processes(Session& session, const std::string& target) {
  constexpr int refresh_ms = 2000;
  std::string table = TRY_PLAIN(process_table(session, target));  // a wrong name or wrong options are said before the screen is taken
  auto screen = TRY_PLAIN(Screen::open(session.out()));
  for (;;) {
    TRY_PLAIN(screen.draw(session.out().has_colour() ? with_bold_head(std::move(table)) : table));
    if (auto code = TRY_PLAIN(screen.wait(refresh_ms))) return *code;
    auto next = process_table(session, target);
    if (!next.ok() && next.error().kind() == ErrorKind::conflict) return 0;  // the container has ended, and the last picture stays
    table = TRY_PLAIN(std::move(next));
  }
}

}  // namespace

Result<int> show_top(Session& session, const Invocation& invocation) {
  const auto& words = invocation.words();
  Query query;
  std::vector<std::string> arguments(words.begin() + 1, words.end());
  query.add_if(!arguments.empty(), "ps_args", join(arguments, " "));
  const std::string target = object_path("containers", words[0], "top") + query.text();
  if (!invocation.flag("no-stream") && Screen::is_possible(session.out())) return watch_processes(session, target);
  session.out().write(TRY_PLAIN(process_table(session, target)));
  return 0;
}

Result<int> show_ports(Session& session, const Invocation& invocation) {
  auto document = TRY_PLAIN(session.get(object_path("containers", invocation.word(0), "json")));
  JsonView settings = TRY_PLAIN(JsonView(document).at("NetworkSettings"));
  JsonView ports = TRY_PLAIN(settings.at("Ports"));
  std::string wanted;
  if (invocation.words().size() == 2) {
    wanted = invocation.word(1);
    if (wanted.find('/') == std::string::npos) wanted += "/tcp";
  }
  struct Line {
    std::int64_t port;
    std::string text;
  };
  std::vector<Line> lines;
  TRY_PLAIN(ports.for_each_member([&](std::string_view port, const JsonView& bindings) -> Status {
    if (!wanted.empty() && port != wanted) return {};
    return bindings.for_each_element([&](const JsonView& binding) -> Status {
      std::string address;
      std::string number;
      TRY_PLAIN(binding.read("HostIp", address));
      TRY_PLAIN(binding.read("HostPort", number));
      if (address.find(':') != std::string::npos) address = concat("[", address, "]");
      std::string target = concat(address, ":", number);
      lines.push_back({parse_integer<std::int64_t>(split_once(port, '/').before).value_or(0), wanted.empty() ? concat(port, " -> ", target) : target});
      return {};
    });
  }));
  if (!wanted.empty() && lines.empty())
    return Error(ErrorKind::not_found, concat("no public port '", wanted, "' published for ", invocation.word(0)));
  std::stable_sort(lines.begin(), lines.end(), [](const Line& a, const Line& b) { return a.port < b.port; });
  for (const auto& line : lines) session.out().line(line.text);
  return 0;
}

namespace {

struct Kind {
  std::string_view name;
  std::string_view collection;
  std::string_view suffix;
};
// The order in which docker looks a name up.
constexpr std::array kinds = {Kind{"container", "containers", "json"}, Kind{"image", "images", "json"}, Kind{"network", "networks", ""}, Kind{"volume", "volumes", ""}};

Result<json::value> fetch(Session& session, const Kind& kind, std::string_view name, const Query& query) {
  return session.get(object_path(kind.collection, name, kind.suffix) + query.text());
}

// What is near, of the first kind that has something near.
Error suggested(Session& session, std::span<const Kind> among, std::string_view name, const Error& error) {
  if (error.kind() != ErrorKind::not_found) return error;
  for (const auto& kind : among)
    if (auto near = suggest_name(session, kind.collection, name); !near.empty()) return Error(error).with_hint(concat("did you mean the ", kind.name, " '", near, "'?"));
  return error;
}

// Collects one document per word; prints what was found, then the errors, as docker does.
Result<int> inspect_words(Session& session, const Invocation& invocation, std::span<const Kind> among, const Query& query, std::string_view what) {
  json::array found;
  std::vector<Error> errors;
  for (const auto& name : invocation.words()) {
    Result<json::value> document = Error(ErrorKind::not_found, concat("Error: No such ", what, ": ", name));
    for (const auto& kind : among) {
      auto answer = fetch(session, kind, name, query);
      if (!answer.ok() && answer.error().kind() == ErrorKind::not_found && among.size() > 1) continue;
      document = std::move(answer);
      break;
    }
    if (document.ok()) found.push_back(std::move(document).value());
    else errors.push_back(suggested(session, among, name, document.error()));
  }
  std::string_view format = invocation.text("format");
  if (!found.empty() || format.empty() || format == "json") TRY_PLAIN(print_documents(session.out(), found, format));
  TRY_PLAIN(session.out().flush());
  for (const auto& error : errors) print_error(session.err(), error);
  return errors.empty() ? 0 : 1;
}

}  // namespace

Result<int> inspect_any(Session& session, const Invocation& invocation) {
  Query query;
  query.add_if(invocation.flag("size"), "size");
  std::string_view type = invocation.text("type");
  if (type.empty()) return inspect_words(session, invocation, kinds, query, "object");
  for (const auto& kind : kinds)
    if (kind.name == type) return inspect_words(session, invocation, std::span(&kind, 1), query, kind.name);
  return Error(ErrorKind::invalid, concat("\"", type, "\" is not a valid value for --type")).with_hint("it can be container, image, network or volume");
}

Result<int> inspect_containers(Session& session, const Invocation& invocation) {
  Query query;
  query.add_if(invocation.flag("size"), "size");
  return inspect_words(session, invocation, std::span(kinds).subspan(0, 1), query, "container");
}

Result<int> inspect_images(Session& session, const Invocation& invocation) {
  for (const auto& name : invocation.words()) TRY_PLAIN(check_platform(session, name, invocation.text("platform")));
  return inspect_words(session, invocation, std::span(kinds).subspan(1, 1), {}, "image");
}

Result<int> inspect_networks(Session& session, const Invocation& invocation) {
  Query query;
  query.add_if(invocation.flag("verbose"), "verbose", "true");
  return inspect_words(session, invocation, std::span(kinds).subspan(2, 1), query, "network");
}

Result<int> inspect_volumes(Session& session, const Invocation& invocation) {
  return inspect_words(session, invocation, std::span(kinds).subspan(3, 1), {}, "volume");
}

}  // namespace caisson::cli
