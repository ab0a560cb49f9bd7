// The manual: one troff page per command, made from the table, and a link page for every other spelling.
#include <algorithm>

#include "base/strings.hpp"
#include "cli/commands.hpp"
#include "cli/help.hpp"
#include "linux/file.hpp"
#include "linux/tree.hpp"

namespace caisson::cli {

namespace {

// troff reads backslashes, a dot or a quote at a line's start, and prints a plain "-" as a hyphen that cannot be copied. It takes
// characters beyond ASCII by name only; ours are few.
std::string escaped(std::string_view text) {
  std::string plain = replace_all(text, "…", "\x01");
  std::string out;
  for (char c : plain) {
    if (c == '\x01') out += "\\[u2026]";
    else if (c == '\\') out += "\\e";
    else if (c == '-') out += "\\-";
    else if ((c == '.' || c == '\'') && (out.empty() || out.back() == '\n')) out += concat("\\&", c);
    else out += c;
  }
  return out;
}

std::string upper_case(std::string text) {
  for (char& c : text) c = c >= 'a' && c <= 'z' ? static_cast<char>(c - 'a' + 'A') : c;
  return text;
}

std::string page_name(std::string_view path) { return path.empty() ? "caisson" : concat("caisson-", replace_all(path, " ", "-")); }

std::string head(std::string_view path, std::string_view summary) {
  std::string name = page_name(path);
  return concat(".TH ", upper_case(name), " 1 \"\" \"Caisson " CAISSON_VERSION "\" \"Caisson manual\"\n.SH NAME\n", escaped(name), " \\- ", escaped(summary), "\n");
}

std::string flag_section(std::string_view title, std::span<const Flag> flags) {
  std::vector<const Flag*> shown;
  for (const auto& flag : flags)
    if (!flag.hidden) shown.push_back(&flag);
  if (shown.empty()) return "";
  std::sort(shown.begin(), shown.end(), [](const Flag* a, const Flag* b) { return a->name < b->name; });
  std::string out = concat(".SH ", title, "\n");
  for (const auto* flag : shown) {
    std::string spelling = flag->letter != 0 ? concat("\\fB\\-", flag->letter, "\\fR, ") : "";
    spelling += concat("\\fB", escaped(concat("--", flag->name)), "\\fR");
    if (!flag->bare_value.empty()) spelling += concat("[=\\fI", escaped(flag->value_name), "\\fR]");
    else if (!flag->value_name.empty()) spelling += concat(" \\fI", escaped(flag->value_name), "\\fR");
    out += concat(".TP\n", spelling, "\n", escaped(flag->help), ".\n");
    if (!flag->default_text.empty() && flag->default_text != "false") out += concat("Default: ", escaped(flag->default_text), ".\n");
    if (!flag->choices.empty()) out += concat("Values: ", escaped(replace_all(flag->choices, " ", ", ")), ".\n");
  }
  return out;
}

std::vector<std::string_view> spellings(const Command& command) {
  std::vector<std::string_view> out = {command.path};
  if (!command.aliases.empty())
    for (auto alias : split(command.aliases, ',')) out.push_back(trim(alias));
  return out;
}

// The commands whose path, or one of their other spellings, is one word behind `group`.
std::string members_section(std::string_view group) {
  std::string start = group.empty() ? "" : concat(group, " ");
  std::vector<std::pair<std::string_view, const Command*>> members;
  for (const auto& command : all_commands()) {
    if (command.hidden) continue;
    for (auto path : spellings(command)) {
      if (!path.starts_with(start) || path.substr(start.size()).find(' ') != std::string_view::npos) continue;
      members.emplace_back(path, &command);
      break;
    }
  }
  std::sort(members.begin(), members.end(), [](const auto& a, const auto& b) { return a.first < b.first; });
  std::string out = ".SH COMMANDS\n";
  for (const auto& [path, command] : members) out += concat(".TP\n\\fB", escaped(page_name(path)), "\\fR(1)\n", escaped(command->summary), ".\n");
  return out;
}

std::string see_also(std::string_view path) {
  auto parent = split_last(path, ' ');
  bool has_group = parent.found && find_command(parent.before) != nullptr;
  return concat(".SH SEE ALSO\n", has_group ? concat("\\fB", escaped(page_name(parent.before)), "\\fR(1), ") : "", "\\fBcaisson\\fR(1)\n");
}

std::string exit_section(const Command& command) {
  if (command.error_code == 1) return ".SH EXIT STATUS\n0 on success, 1 on an error, 125 for wrong flags.\n";
  return ".SH EXIT STATUS\nThat of the container\\(aqs command; 125 when it could not be started, 126 when the command cannot be run,\n127 when there is no such command.\n";
}

std::string command_page(const Command& command) {
  std::string out = head(command.path, command.summary);
  out += concat(".SH SYNOPSIS\n\\fBcaisson ", escaped(command.path), "\\fR", command.usage.empty() ? "" : concat(" ", escaped(command.usage)), "\n");
  out += concat(".SH DESCRIPTION\n", escaped(command.summary), ".\n");
  if (!command.details.empty()) out += concat(".PP\n", escaped(command.details), "\n");
  if (!command.aliases.empty()) {
    std::vector<std::string> others;
    for (auto path : spellings(command))
      if (path != command.path) others.push_back(concat("\\fBcaisson ", escaped(path), "\\fR"));
    out += concat(".PP\nAlso spelled ", join(others, ", "), ".\n");
  }
  if (command.is_group) return out + members_section(command.path) + see_also(command.path);
  return out + flag_section("OPTIONS", command.flags) + exit_section(command) + see_also(command.path);
}

std::string overview_page() {
  return concat(head("", "container engine"), ".SH SYNOPSIS\n\\fBcaisson\\fR [OPTIONS] COMMAND [ARG...]\n.SH DESCRIPTION\n",
                "Runs, builds and looks after containers through the daemon caissond, which is started when it does not run. Commands, flags and output\n"
                "are those of the docker command line.\n",
                flag_section("OPTIONS", global_flags()), members_section(""),
                ".SH ENVIRONMENT\n.TP\n\\fBCAISSON_HOST\\fR\nThe daemon\\(aqs socket, as for \\fB\\-\\-host\\fR.\n.TP\n\\fBDOCKER_CONTEXT\\fR\nThe context, as for \\fB\\-\\-context\\fR; it comes before CAISSON_HOST.\n.TP\n\\fBNO_COLOR\\fR\nNo colours, even on a terminal.\n",
                ".SH FILES\n.TP\n\\fI/run/caisson.sock\\fR\nThe daemon\\(aqs socket.\n.TP\n\\fI/etc/caisson/caisson.toml\\fR\nThe daemon\\(aqs configuration.\n.TP\n"
                "\\fI/var/lib/caisson\\fR\nImages, containers and volumes.\n");
}

}  // namespace

Result<int> write_manual(Session& session, const Invocation& invocation) {
  const std::string& folder = invocation.word(0);
  TRY(linux::make_dirs(folder, 0755), concat("make ", folder));
  auto write = [&](std::string_view path, const std::string& text) -> Status {
    std::string file = concat(folder, "/", page_name(path), ".1");
    TRY(linux::write_file(file, text), concat("write ", file));
    return {};
  };
  TRY_PLAIN(write("", overview_page()));
  for (const auto& command : all_commands()) {
    if (command.hidden) continue;
    TRY_PLAIN(write(command.path, command_page(command)));
    for (auto path : spellings(command))
      if (path != command.path) TRY_PLAIN(write(path, concat(".so man1/", page_name(command.path), ".1\n")));
  }
  session.out().line(concat("wrote the manual to ", folder));
  return 0;
}

}  // namespace caisson::cli
