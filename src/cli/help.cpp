// Help texts in docker's layout, wrapped to the terminal.
#include "cli/help.hpp"

#include <algorithm>
#include <vector>

#include "base/strings.hpp"
#include "cli/commands.hpp"
#include "cli/listing.hpp"

namespace caisson::cli {

namespace {

// Words of `text` in lines of at most `width`; further lines start with `indent` blanks.
std::string wrap(std::string_view text, std::size_t width, std::size_t indent) {
  std::string out;
  std::size_t used = 0;
  for (auto word : split(text, ' ')) {
    std::size_t length = text_width(word);
    if (used > 0 && used + 1 + length > width) {
      out += "\n" + std::string(indent, ' ');
      used = 0;
    }
    if (used > 0) {
      out += ' ';
      ++used;
    }
    out += word;
    used += length;
  }
  return out;
}

std::string flag_head(const Flag& flag) {
  std::string out = flag.letter != 0 ? concat("  -", flag.letter, ", --", flag.name) : concat("      --", flag.name);
  if (!flag.bare_value.empty()) return out + concat("[=", flag.value_name, "]");
  if (!flag.value_name.empty()) out += concat(" ", flag.value_name);
  return out;
}

std::string flag_help(const Flag& flag) {
  bool shows_default = !flag.default_text.empty() && flag.default_text != "false";
  if (!shows_default) return std::string(flag.help);
  bool is_text = flag.type == FlagType::text;
  return concat(flag.help, " (default ", is_text ? "\"" : "", flag.default_text, is_text ? "\"" : "", ")");
}

std::string flag_table(std::span<const Flag> flags, std::size_t width) {
  std::vector<const Flag*> shown;
  for (const auto& flag : flags)
    if (!flag.hidden) shown.push_back(&flag);
  std::sort(shown.begin(), shown.end(), [](const Flag* a, const Flag* b) { return a->name < b->name; });
  std::size_t column = 0;
  for (const auto* flag : shown) column = std::max(column, flag_head(*flag).size() + 3);
  std::size_t room = width > column + 24 ? width - column : 24;
  std::string out;
  for (const auto* flag : shown) {
    std::string head = flag_head(*flag);
    head.resize(column, ' ');
    out += concat(head, wrap(flag_help(*flag), room, column), "\n");
  }
  return out;
}

std::string command_table(const std::vector<std::pair<std::string, std::string_view>>& entries) {
  std::size_t column = 0;
  for (const auto& [name, summary] : entries) column = std::max(column, name.size());
  std::string out;
  for (const auto& [name, summary] : entries) out += concat("  ", name, std::string(column - name.size() + 3, ' '), summary, "\n");
  return out;
}

std::string group_help(const Command& group) {
  std::vector<std::pair<std::string, std::string_view>> entries;
  std::string prefix = concat(group.path, " ");
  for (const auto& command : all_commands()) {
    if (command.hidden) continue;
    std::vector<std::string_view> paths = {command.path};
    for (auto alias : split(command.aliases, ',')) paths.push_back(trim(alias));
    for (auto path : paths)
      if (path.starts_with(prefix)) {
        entries.emplace_back(path.substr(prefix.size()), command.summary);
        break;  // of several spellings the first is shown
      }
  }
  std::sort(entries.begin(), entries.end());
  return concat("\nUsage:  caisson ", group.path, " COMMAND\n\n", group.summary, "\n\nCommands:\n", command_table(entries), "\nRun 'caisson ",
                group.path, " COMMAND --help' for more on a command.\n");
}

}  // namespace

std::string usage_line(const Command* command) {
  if (command == nullptr) return "Usage:  caisson [OPTIONS] COMMAND";
  return concat("Usage:  caisson ", command->path, command->usage.empty() ? "" : " ", command->usage);
}

std::string help_for(const Command& command, std::size_t width) {
  if (command.is_group) return group_help(command);
  std::string out = concat("\n", usage_line(&command), "\n\n", command.summary, "\n");
  if (!command.details.empty()) out += concat("\n", command.details, "\n");
  if (!command.aliases.empty()) {
    std::string names = concat("caisson ", command.path);
    for (auto alias : split(command.aliases, ',')) names += concat(", caisson ", trim(alias));
    out += concat("\nAliases:\n  ", names, "\n");
  }
  if (!command.flags.empty()) out += concat("\nOptions:\n", flag_table(command.flags, width));
  return out;
}

std::string overview(std::size_t width) {
  std::vector<std::pair<std::string, std::string_view>> common;
  std::vector<std::pair<std::string, std::string_view>> groups;
  std::vector<std::pair<std::string, std::string_view>> others;
  for (const auto& command : all_commands()) {
    if (command.hidden || command.path.find(' ') != std::string_view::npos) continue;
    auto& list = command.is_common ? common : command.is_group ? groups : others;
    list.emplace_back(command.path, command.summary);
  }
  return concat("\n", usage_line(nullptr), "\n\nA container engine\n\nCommon Commands:\n", command_table(common), "\nManagement Commands:\n",
                command_table(groups), "\nCommands:\n", command_table(others), "\nGlobal Options:\n", flag_table(global_flags(), width),
                "\nRun 'caisson COMMAND --help' for more on a command.\n");
}

Result<int> show_help(Session& session, const Invocation& invocation) {
  const auto& words = invocation.words();
  if (words.empty()) {
    session.out().write(overview(session.out().width()));
    return 0;
  }
  std::string path = join(words, " ");
  const Command* command = find_command(path);
  if (command == nullptr) return Error(ErrorKind::not_found, concat("unknown help topic: ", path)).with_hint("see 'caisson --help'");
  session.out().write(help_for(*command, session.out().width()));
  return 0;
}

}  // namespace caisson::cli
