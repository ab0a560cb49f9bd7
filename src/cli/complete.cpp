// Completion: cobra's protocol, which users' shells know from docker and podman. "value<TAB>description" lines, then ":mask".
#include <array>

#include "base/strings.hpp"
#include "cli/commands.hpp"
#include "cli/context.hpp"
#include "cli/context_store.hpp"

namespace caisson::cli {

namespace {

// Bits of the last line.
constexpr int no_space = 2;
constexpr int no_files = 4;
constexpr int files_welcome = 0;
// A shell that waits for completions must not hang; without a daemon there are none.
constexpr int daemon_timeout_ms = 300;

struct Answer {
  std::vector<std::string> lines;
  int mask = no_files;
  void offer(std::string_view value, std::string_view description, std::string_view prefix) {
    if (!value.starts_with(prefix)) return;
    lines.push_back(description.empty() ? std::string(value) : concat(value, "\t", description));
  }
};

void offer_flags(Answer& answer, std::span<const Flag> flags, std::string_view prefix) {
  for (const auto& flag : flags) {
    if (flag.hidden) continue;
    answer.offer(concat("--", flag.name), flag.help, prefix);
    if (flag.letter != 0 && prefix.size() < 2) answer.offer(concat("-", flag.letter), flag.help, prefix);
  }
}

void offer_commands(Answer& answer, std::string_view group, std::string_view prefix) {
  std::string start = group.empty() ? "" : concat(group, " ");
  for (const auto& command : all_commands()) {
    if (command.hidden) continue;
    std::vector<std::string_view> paths = {command.path};
    if (!command.aliases.empty())
      for (auto alias : split(command.aliases, ',')) paths.push_back(trim(alias));
    for (auto path : paths) {
      if (!path.starts_with(start)) continue;
      std::string_view rest = path.substr(start.size());
      if (!rest.empty() && rest.find(' ') == std::string_view::npos) answer.offer(rest, command.summary, prefix);
    }
  }
}

// One API call with a short timeout; silently nothing without a daemon.
Result<json::value> ask(Session& session, std::string_view target) {
  auto client = TRY_PLAIN(session.connect_quickly(daemon_timeout_ms));
  TRY_PLAIN(session.open_stream(*client, "GET", target));
  std::string body = TRY_PLAIN(client->read_all());
  return parse_json(body, "the daemon's answer");
}

// The containers that a command can do something with: only paused ones can be unpaused.
std::string_view containers_target(Words words) {
  switch (words) {
    case Words::running: return "/containers/json";
    case Words::paused: return R"(/containers/json?filters=%7B%22status%22%3A%7B%22paused%22%3Atrue%7D%7D)";
    case Words::stopped: return R"(/containers/json?filters=%7B%22status%22%3A%7B%22created%22%3Atrue%2C%22exited%22%3Atrue%7D%7D)";
    default: return "/containers/json?all=1";
  }
}

Status offer_log_drivers(Answer& answer, Session& session, std::string_view prefix) {
  auto info = TRY_PLAIN(ask(session, "/info"));
  JsonView plugins = TRY_PLAIN(JsonView(info).at("Plugins"));
  std::vector<std::string> drivers;
  TRY_PLAIN(plugins.read("Log", drivers));
  for (const auto& driver : drivers) answer.offer(driver, "", prefix);
  return {};
}

Status offer_objects(Answer& answer, Session& session, Words words, std::string_view prefix) {
  if (words == Words::log_drivers) return offer_log_drivers(answer, session, prefix);
  if (words == Words::containers || words == Words::running || words == Words::paused || words == Words::stopped) {
    auto list = TRY_PLAIN(ask(session, containers_target(words)));
    return JsonView(list).for_each_element([&](const JsonView& container) -> Status {
      std::vector<std::string> names;
      std::string image;
      TRY_PLAIN(container.read("Names", names));
      TRY_PLAIN(container.read("Image", image));
      for (const auto& name : names) answer.offer(name.starts_with("/") ? std::string_view(name).substr(1) : std::string_view(name), image, prefix);
      return {};
    });
  }
  if (words == Words::images) {
    auto list = TRY_PLAIN(ask(session, "/images/json"));
    return JsonView(list).for_each_element([&](const JsonView& image) -> Status {
      std::vector<std::string> tags;
      TRY_PLAIN(image.read("RepoTags", tags));
      for (const auto& tag : tags) answer.offer(tag, "", prefix);
      return {};
    });
  }
  auto document = TRY_PLAIN(ask(session, words == Words::volumes ? "/volumes" : "/networks"));
  JsonView list(document);
  if (words == Words::volumes) list = TRY_PLAIN(list.at("Volumes"));
  return list.for_each_element([&](const JsonView& item) -> Status {
    std::string name;
    TRY_PLAIN(item.read("Name", name));
    answer.offer(name, "", prefix);
    return {};
  });
}

void offer_contexts(Answer& answer, const Session& session, std::string_view prefix) {
  for (const auto& name : ContextStore(config_folder(session.global())).names().value_or({})) answer.offer(name, "", prefix);
  answer.offer("default", "", prefix);
}

void offer_words(Answer& answer, Session& session, Words words, std::string_view prefix) {
  if (words == Words::files) answer.mask = files_welcome;
  else if (words == Words::commands) offer_commands(answer, "", prefix);
  else if (words == Words::contexts) offer_contexts(answer, session, prefix);
  else if (words == Words::shells)
    for (std::string_view shell : {"bash", "fish", "zsh"}) answer.offer(shell, "", prefix);
  else if (words != Words::none) ignore(offer_objects(answer, session, words, prefix));  // completion never complains
}

// What stands behind a filter's "=" or in "container:NAME" is the name of something that exists.
Words named_by(std::string_view key) {
  if (key == "network") return Words::networks;
  if (key == "volume") return Words::volumes;
  if (key == "ancestor" || key == "image" || key == "reference") return Words::images;
  if (key == "container") return Words::containers;
  return Words::none;
}

// Values of a flag: its fixed ones, and what lives in the daemon.
void offer_values(Answer& answer, Session& session, const Flag& flag, std::string_view typed) {
  if (!flag.choices.empty())
    for (auto choice : split(flag.choices, ' ')) answer.offer(choice, "", typed);
  auto mark = typed.find_first_of("=:");
  bool is_reference = mark != std::string_view::npos && typed.substr(0, mark) == "container" && typed[mark] == ':';
  bool is_filter = mark != std::string_view::npos && flag.name == "filter" && typed[mark] == '=';
  if (is_reference || is_filter) {
    Answer named;
    offer_words(named, session, named_by(typed.substr(0, mark)), typed.substr(mark + 1));
    for (const auto& line : named.lines) answer.lines.push_back(concat(typed.substr(0, mark + 1), line));
  } else {
    offer_words(answer, session, flag.words, typed);
    if (flag.words == Words::networks) answer.offer("container:", "", typed);
    if (flag.words == Words::volumes) answer.mask = files_welcome;  // a folder of the host may stand there too
  }
  // What is only begun ("status=", "container:") is typed on without a blank.
  bool is_begun = !answer.lines.empty();
  for (const auto& line : answer.lines) is_begun = is_begun && std::string_view("=:,").find(line.back()) != std::string_view::npos;
  if (is_begun) answer.mask |= no_space;
}

// The flag whose value is being typed: the word before it is "--flag" or "-f" without a value of its own.
const Flag* flag_before(std::span<const Flag> flags, std::string_view previous) {
  const Flag* flag = nullptr;
  if (previous.starts_with("--")) flag = find_flag(flags, previous.substr(2));
  else if (previous.size() >= 2 && previous[0] == '-') flag = find_flag(flags, previous.back());
  return flag != nullptr && flag->type != FlagType::boolean && flag->bare_value.empty() ? flag : nullptr;
}

}  // namespace

Result<int> complete(Session& session, const Invocation& invocation) {
  std::vector<std::string> words = invocation.words();
  if (words.empty()) words.emplace_back("");
  std::string current = words.back();
  words.pop_back();
  // What stands before the last word is an ordinary command line, perhaps an unfinished one: its errors do not matter.
  std::optional<UsageError> error;
  Parsed parsed = parse_command_line(words, error);
  // -H among the words that are completed counts, as it will when they are run.
  Session named(parsed.global);
  Session& source = parsed.global.has("host") || parsed.global.has("exec-root") ? named : session;
  Answer answer;
  std::span<const Flag> flags = parsed.command != nullptr ? parsed.command->flags : global_flags();
  const Flag* value_of = words.empty() ? nullptr : flag_before(flags, words.back());
  auto halves = split_once(current, '=');
  if (value_of != nullptr) {
    offer_values(answer, source, *value_of, current);
  } else if (current.starts_with("--") && halves.found) {
    const Flag* flag = find_flag(flags, halves.before.substr(2));
    if (flag != nullptr) offer_values(answer, source, *flag, halves.after);
  } else if (current.starts_with("-")) {
    offer_flags(answer, flags, current);
  } else if (parsed.command == nullptr || parsed.command->is_group) {
    offer_commands(answer, parsed.command == nullptr ? "" : parsed.command->path, current);
  } else {
    bool is_first = parsed.invocation.words().empty();
    auto most = parsed.command->arity.most;
    bool takes_more = most < 0 || static_cast<int>(parsed.invocation.words().size()) < most;
    // run IMAGE and exec CONTAINER: what follows is the container's own command line.
    if (is_first || (takes_more && parsed.command->interspersed)) offer_words(answer, source, parsed.command->words, current);
    else answer.mask = parsed.command->interspersed ? no_files : files_welcome;
  }
  for (const auto& line : answer.lines) session.out().line(line);
  session.out().line(concat(":", answer.mask));
  return 0;
}

}  // namespace caisson::cli
