// The command line: few words, so no table. The commands but serve ask the running server, or open the folder themselves.
#include "registry/main.hpp"

#include <algorithm>
#include <cstdio>
#include <optional>

#include "base/log.hpp"
#include "base/strings.hpp"
#include "linux/file.hpp"
#include "registry/admin.hpp"
#include "registry/confine.hpp"
#include "registry/serve.hpp"
#include "wire/http_client.hpp"

namespace caisson::registry {

namespace {

constexpr const char* default_config_path = "/etc/caisson/registry.toml";
constexpr const char* default_root = "/var/lib/caisson-registry";
constexpr int admin_timeout_ms = 5000;
constexpr int folder_look_ms = 100;
constexpr int folder_looks = 50;

constexpr const char* usage =
    "Usage: caisson-registry serve|ls|rm|gc|du [OPTIONS] [ITEM...]\n"
    "\n"
    "  serve                       Serve images from a folder\n"
    "  ls [REPOSITORY]             List repositories, or the tags of one\n"
    "  rm REPOSITORY[:TAG|@DIGEST] Remove a repository, a tag, or a manifest with its tags\n"
    "  gc                          Remove what nothing leads to any more\n"
    "  du                          Show what takes space\n"
    "\n"
    "  --config FILE        Settings (default /etc/caisson/registry.toml, if it is there)\n"
    "  --root FOLDER        Where everything is kept (default /var/lib/caisson-registry)\n"
    "  --format text|json   How ls, gc and du print (default text)\n"
    "serve:\n"
    "  --listen ADDRESS     Address and port; may be repeated (default 127.0.0.1:5000)\n"
    "  --tls-cert FILE      Certificate with its chain, PEM\n"
    "  --tls-key FILE       Its key, PEM\n"
    "  --htpasswd FILE      Users with bcrypt hashes (htpasswd -B)\n"
    "  --metrics ADDRESS    Also serve /metrics there\n"
    "  --user USER          Whom to run as when started by the superuser: a name or UID[:GID]\n"
    "  --allow-plain-http   Serve beyond loopback without TLS\n"
    "  --read-only          Refuse every change\n"
    "  --access-log         Log every request\n"
    "gc:\n"
    "  --untagged           Also manifests that no tag leads to\n"
    "  --grace DURATION     Leave alone what was pushed or asked for within it (default 1h)\n";

struct Arguments {
  std::string command;
  std::vector<std::string> items;
  Config config;
  bool is_json = false;
  bool untagged = false;
  std::string grace;
};

/// "--name value" and "--name=value"; a switch takes no value.
struct Flag {
  std::string_view name;
  bool has_value;
};
constexpr Flag flags[] = {{"config", true}, {"root", true}, {"format", true}, {"listen", true}, {"tls-cert", true}, {"tls-key", true}, {"htpasswd", true}, {"metrics", true},
                          {"user", true}, {"allow-plain-http", false}, {"read-only", false}, {"access-log", false}, {"untagged", false}, {"grace", true}};
using Given = std::vector<std::pair<std::string_view, std::string>>;

Result<Given> split_flags(const std::vector<std::string>& words, std::vector<std::string>& items) {
  Given given;
  for (std::size_t i = 0; i < words.size(); ++i) {
    std::string_view word = words[i];
    if (!word.starts_with("--")) {
      items.push_back(words[i]);
      continue;
    }
    const auto halves = split_once(word.substr(2), '=');
    const auto* flag = std::find_if(std::begin(flags), std::end(flags), [&](const Flag& one) { return one.name == halves.before; });
    if (flag == std::end(flags)) return Error(ErrorKind::invalid, concat("unknown flag: --", halves.before)).with_hint("see: caisson-registry --help");
    if (!flag->has_value && halves.found) return Error(ErrorKind::invalid, concat("--", flag->name, " takes no value"));
    if (flag->has_value && !halves.found && ++i == words.size()) return Error(ErrorKind::invalid, concat("--", flag->name, " needs a value"));
    given.emplace_back(flag->name, !flag->has_value ? "" : halves.found ? std::string(halves.after) : words[i]);
  }
  return given;
}

Result<Config> read_config(const Given& given) {
  std::string path = default_config_path;
  bool is_given = false;
  for (const auto& [name, value] : given) {
    if (name != "config") continue;
    path = value;
    is_given = true;
  }
  auto text = linux::read_file(path);
  if (!text.ok() && text.error().kind() == ErrorKind::not_found && !is_given) return Config{};
  return TRY(parse_config(TRY(std::move(text), "settings")), path);
}

Status apply(Arguments& out, std::string_view name, const std::string& value, bool& has_listen) {
  auto& config = out.config;
  if (name == "root") config.root = value;
  else if (name == "listen") {
    if (!std::exchange(has_listen, true)) config.listen.clear();
    config.listen.push_back(value);
  } else if (name == "tls-cert") config.tls.certificate = value;
  else if (name == "tls-key") config.tls.key = value;
  else if (name == "htpasswd") config.htpasswd_file = value;
  else if (name == "metrics") config.metrics_listen = value;
  else if (name == "user") config.user = value;
  else if (name == "allow-plain-http") config.allow_plain_http = true;
  else if (name == "read-only") config.is_read_only = true;
  else if (name == "access-log") config.logs_requests = true;
  else if (name == "untagged") out.untagged = true;
  else if (name == "grace") out.grace = value;
  else if (name == "format") {
    if (value != "text" && value != "json") return Error(ErrorKind::invalid, concat("--format ", value, ": want text or json"));
    out.is_json = value == "json";
  }
  return {};
}

Result<Arguments> parse(const std::vector<std::string>& words) {
  Arguments out;
  out.command = words.front();
  const auto given = TRY_PLAIN(split_flags({words.begin() + 1, words.end()}, out.items));
  out.config = TRY_PLAIN(read_config(given));
  bool has_listen = false;
  for (const auto& [name, value] : given) TRY_PLAIN(apply(out, name, value, has_listen));
  if (out.config.root.empty()) out.config.root = default_root;
  if (out.config.fetch_path.empty())
    if (auto self = linux::readlinkat(AT_FDCWD, "/proc/self/exe"); self.ok()) out.config.fetch_path = concat(split_last(*self, '/').before, "/caisson-fetch");
  TRY_PLAIN(check_config(out.config));
  return out;
}

// -- the commands that ask

struct Question {
  std::string method;
  std::string path;
  std::string query;
};

struct Told {
  int status = 0;
  std::string body;
};

/// Nothing where no server listens.
Result<std::optional<Told>> ask_server(const Config& config, const Question& question) {
  auto client = wire::connect(concat("unix://", admin_socket(config.root)), admin_timeout_ms);
  if (!client.ok()) {
    if (client.error().kind() == ErrorKind::denied) return std::move(client).error().with_hint("only the superuser and the registry's own user may ask");
    return std::optional<Told>();
  }
  auto head = TRY((*client)->send(question.method, concat(question.path, question.query.empty() ? "" : "?", question.query), {}, ""), "ask the registry");
  auto body = TRY((*client)->read_all(), "ask the registry");
  return std::optional(Told{head.status, std::move(body)});
}

/// An answer of our own, from the folder. A server that is about to start, or another command, may have the folder: then the one is asked, the
/// other waited for.
Result<Told> ask_folder(const Config& config, const Question& question) {
  if (!TRY_PLAIN(linux::exists(config.root))) return Error(ErrorKind::not_found, concat("folder ", config.root, ": there is no registry"));
  const auto identity = TRY_PLAIN(choose_identity(config.user, config.root));
  TRY_PLAIN(prepare_root(config.root, identity));  // a server that was killed in its first moment has not
  Prepared prepared;
  prepared.bucket = TRY(prepare_bucket(config, identity.uid), "storage");
  TRY_PLAIN(become(identity));
  auto local = config;
  local.proxies.clear();  // nobody is asked and nobody is told
  local.events.clear();
  for (int looks = folder_looks; ; --looks) {
    auto records = open_records(local, folder_look_ms);
    if (records.ok()) {
      auto service = TRY_PLAIN(Service::open(local, std::move(*records), std::move(prepared)));
      auto answer = Admin(*service).answer(question.method, question.path, question.query);
      return Told{answer.status, std::move(answer.body)};
    }
    if (records.error().kind() != ErrorKind::unavailable || looks == 0) return std::move(records).error();
    if (auto told = TRY_PLAIN(ask_server(local, question))) return std::move(*told);
  }
}

/// The running server's answer, or one of our own.
Result<json::value> ask(const Arguments& arguments, const Question& question) {
  auto told = TRY_PLAIN(ask_server(arguments.config, question));
  if (!told) told = TRY_PLAIN(ask_folder(arguments.config, question));
  const auto& [status, body] = *told;
  auto document = TRY_PLAIN(parse_json(body, "the registry's answer"));
  if (status / 100 == 2) return document;
  std::vector<json::value> errors;
  const auto* list = document.is_object() ? document.as_object().if_contains("errors") : nullptr;
  if (list == nullptr || !list->is_array() || list->as_array().empty()) return Error(ErrorKind::io, concat("the registry answered ", status));
  std::string message;
  TRY_PLAIN(JsonView(list->as_array().front()).read("message", message));
  return Error(status == 404 ? ErrorKind::not_found : ErrorKind::io, message);
}

void print(std::string_view text) { std::fwrite(text.data(), 1, text.size(), stdout); }

std::string padded(std::string text, std::size_t width) {
  if (text.size() < width) text.append(width - text.size(), ' ');
  return text;
}

/// Rows of equal columns under a head.
void print_table(const std::vector<std::vector<std::string>>& rows) {
  std::vector<std::size_t> widths;
  for (const auto& row : rows)
    for (std::size_t i = 0; i < row.size(); ++i) {
      if (i == widths.size()) widths.push_back(0);
      widths[i] = std::max(widths[i], row[i].size());
    }
  for (const auto& row : rows) {
    std::string line;
    for (std::size_t i = 0; i < row.size(); ++i) line += i + 1 == row.size() ? row[i] : padded(row[i], widths[i] + 3);
    print(line + "\n");
  }
}

Status list(const Arguments& arguments) {
  if (arguments.items.size() > 1) return Error(ErrorKind::invalid, "ls takes at most one repository");
  const bool of_one = !arguments.items.empty();
  const auto document = TRY_PLAIN(ask(arguments, {"GET", "/repositories", of_one ? concat("name=", wire::percent_encode(arguments.items.front())) : ""}));
  if (arguments.is_json) {
    print(to_text(document) + "\n");
    return {};
  }
  std::vector<std::vector<std::string>> rows;
  rows.push_back(of_one ? std::vector<std::string>{"TAG", "DIGEST", "PUSHED"} : std::vector<std::string>{"REPOSITORY", "TAGS", "SIZE"});
  TRY_PLAIN(JsonView(document).for_each_element([&](const JsonView& item) -> Status {
    std::string name;
    std::string second;
    std::string third;
    std::uint64_t tags = 0;
    std::uint64_t bytes = 0;
    TRY_PLAIN(item.read(of_one ? "tag" : "name", name));
    TRY_PLAIN(item.read("digest", second));
    TRY_PLAIN(item.read("pushed", third));
    TRY_PLAIN(item.read("tags", tags));
    TRY_PLAIN(item.read("bytes", bytes));
    rows.push_back(of_one ? std::vector<std::string>{name, second, third} : std::vector<std::string>{name, concat(tags), human_size(bytes)});
    return {};
  }));
  print_table(rows);
  return {};
}

Status remove(const Arguments& arguments) {
  if (arguments.items.empty()) return Error(ErrorKind::invalid, "rm needs REPOSITORY, REPOSITORY:TAG or REPOSITORY@DIGEST");
  for (const auto& item : arguments.items) {
    TRY_PLAIN(ask(arguments, {"DELETE", "/items", concat("name=", wire::percent_encode(item))}));
    print(item + "\n");
  }
  return {};
}

Status collect(const Arguments& arguments) {
  auto query = concat(arguments.untagged ? "untagged=1&" : "", arguments.grace.empty() ? "" : concat("grace=", wire::percent_encode(arguments.grace)));
  const auto document = TRY_PLAIN(ask(arguments, {"POST", "/clean-up", query}));
  if (arguments.is_json) {
    print(to_text(document) + "\n");
    return {};
  }
  std::uint64_t bytes = 0;
  JsonView view(document);
  TRY_PLAIN(view.read("bytes", bytes));
  for (std::string_view what : {"manifests", "links", "blobs", "uploads"}) {
    std::uint64_t count = 0;
    TRY_PLAIN(view.read(what, count));
    print(concat(what, " removed: ", count, "\n"));
  }
  print(concat("space given back: ", human_size(bytes), "\n"));
  return {};
}

Status show_usage(const Arguments& arguments) {
  const auto document = TRY_PLAIN(ask(arguments, {"GET", "/usage", ""}));
  if (arguments.is_json) {
    print(to_text(document) + "\n");
    return {};
  }
  std::vector<std::vector<std::string>> rows{{"REPOSITORY", "SIZE"}};
  JsonView view(document);
  const auto repositories = TRY_PLAIN(view.at("repositories"));
  TRY_PLAIN(repositories.for_each_member([&](std::string_view name, const JsonView& item) -> Status {
    std::uint64_t bytes = 0;
    TRY_PLAIN(item.read(bytes));
    rows.push_back({std::string(name), human_size(bytes)});
    return {};
  }));
  std::uint64_t total = 0;
  TRY_PLAIN(view.read("total", total));
  rows.push_back({"on disk, shared blobs once", human_size(total)});
  print_table(rows);
  return {};
}

Status run(const Arguments& arguments) {
  if (arguments.command == "serve") return serve(arguments.config);
  if (arguments.command == "ls") return list(arguments);
  if (arguments.command == "rm") return remove(arguments);
  if (arguments.command == "gc") return collect(arguments);
  if (arguments.command == "du") return show_usage(arguments);
  return Error(ErrorKind::invalid, concat("unknown command: ", arguments.command)).with_hint("see: caisson-registry --help");
}

}  // namespace

int registry_main(const std::vector<std::string>& words) {
  const auto wants = [&](std::string_view word) { return std::find(words.begin(), words.end(), word) != words.end(); };
  if (words.empty() || wants("--help") || wants("-h")) {
    print(usage);
    return words.empty() ? 1 : 0;
  }
  if (wants("--version")) {
    print("caisson-registry version " CAISSON_VERSION "\n");
    return 0;
  }
  auto arguments = parse(words);
  auto outcome = arguments.ok() ? run(*arguments) : Status(std::move(arguments).error());
  if (outcome.ok()) return 0;
  std::string text = concat("caisson-registry: ", outcome.error().text(), "\n");
  if (!outcome.error().hint().empty()) text += concat("hint: ", outcome.error().hint(), "\n");
  std::fputs(text.c_str(), stderr);
  return 1;
}

}  // namespace caisson::registry
