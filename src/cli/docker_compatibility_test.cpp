// What this command line sends and prints, against what the docker client did with the same arguments
// (tests/data/cli/docker_requests.json, made by tools/record_docker_cli.py).
#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <regex>
#include <set>
#include <sstream>

#include "cli/command.hpp"
#include "cli/fake_daemon.hpp"

namespace caisson::cli {
namespace {

json::value load_recordings() {
  std::ifstream file(test_data("docker_requests.json"));
  std::stringstream text;
  text << file.rdbuf();
  auto parsed = parse_json(text.str(), "docker_requests.json");
  EXPECT_TRUE(parsed.ok());
  return *parsed;
}

std::string text_of(const json::value& value) { return std::string(value.as_string()); }

std::vector<std::string> words_of(const json::value& value) {
  std::vector<std::string> out;
  for (const auto& word : value.as_array()) out.push_back(text_of(word));
  return out;
}

// Object members in key order, so that documents compare as text; Env in any order (docker's client itself shuffles it).
json::value sorted(const json::value& value, bool is_env = false) {
  if (const auto* object = value.if_object()) {
    std::map<std::string, json::value> members;
    for (const auto& member : *object) members[std::string(member.key())] = sorted(member.value(), member.key() == "Env" || member.key() == "Binds");
    json::object out;
    for (auto& [key, member] : members) out[key] = member;
    return out;
  }
  if (const auto* array = value.if_array()) {
    std::vector<std::string> texts;
    json::array out;
    for (const auto& item : *array) {
      out.push_back(sorted(item));
      texts.push_back(json::serialize(out.back()));
    }
    if (!is_env) return out;
    std::sort(texts.begin(), texts.end());
    json::array by_text;
    for (const auto& text : texts) by_text.emplace_back(text);
    return by_text;
  }
  return value;
}

// One request as comparable text.
std::string describe(std::string_view method, std::string_view path, const std::map<std::string, std::vector<std::string>>& query, std::string_view body) {
  std::string out = concat(method, " ", path);
  for (const auto& [key, values] : query)
    for (const auto& value : values) {
      auto filters = key == "filters" ? parse_json(value, "filters") : Result<json::value>(Error(ErrorKind::invalid, ""));
      out += concat(" ", key, "=", filters.ok() ? to_text(sorted(*filters)) : value);
    }
  if (!body.empty()) {
    auto parsed = parse_json(body, "body");
    out += "\n" + (parsed.ok() ? to_text(sorted(*parsed)) : std::string(body));
  }
  return out;
}

std::string describe_recorded(const json::object& request) {
  std::map<std::string, std::vector<std::string>> query;
  for (const auto& member : request.at("query").as_object()) query[std::string(member.key())] = words_of(member.value());
  std::string body = request.contains("body") ? to_text(request.at("body")) : request.contains("raw") ? text_of(request.at("raw")) : "";
  return describe(text_of(request.at("method")), text_of(request.at("path")), query, body);
}

// Requests of docker's that we do without: it asks for the container before exec, and waits for a detached one.
bool is_skipped(std::string_view name, std::string_view description) {
  if (name.starts_with("run_detached")) return description.find("/wait") != std::string_view::npos;
  return name == "exec_detached" && description.starts_with("GET ");
}

constexpr std::string_view container = R"({"Id":"ffffffffffff0000000000000000000000000000000000000000000000000000","Warnings":[],"Name":"/web","StatusCode":0,
  "State":{"Status":"running","Running":true,"Paused":false,"Restarting":false},"Config":{"Tty":false,"OpenStdin":false,"Image":"img"},
  "NetworkSettings":{"Ports":{"80/tcp":[{"HostIp":"0.0.0.0","HostPort":"8080"},{"HostIp":"::","HostPort":"8080"}]}},
  "Titles":["PID"],"Processes":[["1"]],"SpaceReclaimed":0,"Volumes":[]})";

void answer_everything(FakeDaemon& daemon) {
  daemon.on_json("GET /containers/json", 200, "[]");
  daemon.on_json("GET /images/json", 200, "[]");
  daemon.on_json("GET /networks", 200, "[]");
  daemon.on_json("GET /images/a/history", 200, "[]");
  daemon.on_json("GET /events", 200, "");
  daemon.on_json("GET /images/get", 200, "tar");
  daemon.on("GET /containers/ffffffffffff0000000000000000000000000000000000000000000000000000/logs",
            [](wire::Exchange& exchange, const RecordedRequest&) { ignore(exchange.respond(200, {}, "")); });
  daemon.on_json("DELETE /images/*", 200, "[]");
  daemon.on("DELETE /*", [](wire::Exchange& exchange, const RecordedRequest&) { ignore(exchange.respond(204, {}, "")); });
  for (std::string_view route : {"GET /*", "POST /*"}) daemon.on_json(std::string(route), 200, std::string(container));
}

class docker_compatibility : public testing::Test {
 protected:
  docker_compatibility() : recordings_(load_recordings()) {
    auto folder = linux::getcwd();
    EXPECT_TRUE(folder.ok());
    old_folder_ = *folder;
    EXPECT_TRUE(linux::chdir(daemon_.folder()).ok());
  }
  ~docker_compatibility() override { EXPECT_TRUE(linux::chdir(old_folder_).ok()); }

  FakeDaemon daemon_;
  json::value recordings_;
  std::string old_folder_;
};

TEST_F(docker_compatibility, every_recorded_command_line_sends_the_same_requests) {
  answer_everything(daemon_);
  const auto& document = recordings_.as_object();
  for (const auto& file : document.at("files").as_object()) ASSERT_TRUE(linux::write_file(std::string(file.key()), text_of(file.value())).ok());
  ASSERT_TRUE(linux::write_file("in.tar", "not really a tar\n").ok());
  for (const auto& entry : document.at("environment").as_object()) setenv(std::string(entry.key()).c_str(), text_of(entry.value()).c_str(), 1);
  unsetenv("UNSET_ONE");
  std::size_t checked = 0;
  for (const auto& item : document.at("cases").as_array()) {
    const auto& recorded = item.as_object();
    std::string name = text_of(recorded.at("name"));
    auto outcome = daemon_.run(words_of(recorded.at("arguments")));
    std::vector<std::string> want;
    for (const auto& request : recorded.at("requests").as_array()) {
      std::string description = describe_recorded(request.as_object());
      if (!is_skipped(name, description)) want.push_back(description);
    }
    std::vector<std::string> got;
    for (const auto& request : daemon_.take_requests()) got.push_back(describe(request.method, request.path, request.query, request.body));
    if (name == "kill_signal" || name == "start" || name == "wait") {  // docker works in parallel there
      std::sort(want.begin(), want.end());
      std::sort(got.begin(), got.end());
    }
    EXPECT_EQ(got, want) << name << ": " << outcome.err;
    ++checked;
  }
  EXPECT_GE(checked, 150U);
}

// "-3" and "three hours ago" in the recorded lists are just that.
json::value aged(const json::value& value, std::int64_t created) {
  if (const auto* object = value.if_object()) {
    json::object out;
    for (const auto& member : *object) out[member.key()] = aged(member.value(), created);
    return out;
  }
  if (const auto* array = value.if_array()) {
    json::array out;
    for (const auto& item : *array) out.push_back(aged(item, created));
    return out;
  }
  constexpr std::int64_t second_ns = 1'000'000'000;
  if (value.is_string() && value.get_string() == "three hours ago") return json::value(to_rfc3339(created * second_ns));
  return value.is_int64() && value.get_int64() == -3 ? json::value(created) : value;
}

std::vector<std::string> sorted_lines(const std::string& text) {
  std::vector<std::string> lines;
  for (auto line : split(text, '\n')) lines.emplace_back(line);
  std::sort(lines.begin(), lines.end());
  return lines;
}

// Newer docker clients know these fields too; 28.2 does not print them.
std::string without_newer_fields(const std::string& text) {
  return std::regex_replace(text, std::regex(R"re("(HealthStatus|IPAddresses)":"[^"]*",)re"), "");
}

TEST_F(docker_compatibility, every_recorded_table_is_printed_alike) {
  const auto& document = recordings_.as_object();
  constexpr std::int64_t second_ns = 1'000'000'000;
  std::int64_t created = now_ns() / second_ns - 3 * 3600 - 600;
  for (const auto& entry : document.at("lists").as_object())
    daemon_.on_json(concat("GET /", std::string_view(entry.key())), 200, to_text(aged(entry.value(), created)));
  for (const auto& item : document.at("tables").as_array()) {
    const auto& recorded = item.as_object();
    std::string name = text_of(recorded.at("name"));
    auto outcome = daemon_.run(words_of(recorded.at("arguments")));
    EXPECT_EQ(outcome.code, recorded.at("exit_code").as_int64()) << name << outcome.err;
    std::string got = std::regex_replace(outcome.out, std::regex(R"(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d \+0000 UTC)"), "TIME");
    std::string want = text_of(recorded.at("output"));
    if (name.starts_with("images")) {  // docker's order of the names of one image is that of a Go map
      EXPECT_EQ(sorted_lines(got), sorted_lines(want)) << name;
    } else {
      EXPECT_EQ(without_newer_fields(got), want) << name;
    }
  }
}

// What docker's help lists, against the table: a flag of ours may say that it is not supported, but it is never unknown.
TEST(docker_commands, every_command_and_flag_of_dockers_is_known_here) {
  std::ifstream file(test_data("docker_commands.json"));
  std::stringstream text;
  text << file.rdbuf();
  auto document = parse_json(text.str(), "docker_commands.json");
  ASSERT_TRUE(document.ok());
  std::size_t checked = 0;
  for (const auto& entry : document->as_object().at("commands").as_object()) {
    std::string path(entry.key());
    const Command* command = find_command(path);
    for (auto shorter = split_last(path, ' '); command == nullptr && shorter.found; shorter = split_last(shorter.before, ' '))
      if (const Command* above = find_command(shorter.before); above != nullptr && !above->refusal.empty()) command = above;
    ASSERT_NE(command, nullptr) << path;
    if (!command->refusal.empty()) continue;
    for (const auto& alias : words_of(entry.value().as_object().at("aliases"))) EXPECT_EQ(find_command(alias), command) << path << " is also spelled " << alias;
    for (const auto& item : entry.value().as_object().at("flags").as_array()) {
      const auto& parts = item.as_array();
      std::string name = text_of(parts[0]);
      std::string letter = text_of(parts[1]);
      if (name == "help") continue;
      const Flag* flag = find_flag(command->flags, name);
      ASSERT_NE(flag, nullptr) << path << " --" << name;
      EXPECT_EQ(flag->type != FlagType::boolean, parts[2].as_bool()) << path << " --" << name;
      const Flag* by_letter = letter.empty() ? flag : find_flag(command->flags, letter[0]);
      EXPECT_EQ(by_letter, flag) << path << " -" << letter;
      ++checked;
    }
  }
  EXPECT_GE(checked, 400U);
}

}  // namespace
}  // namespace caisson::cli
