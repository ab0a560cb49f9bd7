#include "cli/build_call.hpp"

#include <functional>
#include <span>
#include <vector>

#include "base/strings.hpp"
#include "cli/listing.hpp"

namespace caisson::cli {

namespace {

using Row = std::vector<std::string>;

/// Nothing when there is but the head.
void print_rows(Output& out, const std::vector<Row>& rows) {
  if (rows.size() > 1) out.write(align(rows));
}

Result<std::string> text_of(const JsonView& view, std::string_view name) {
  std::string text;
  TRY_PLAIN(view.read(name, text));
  return text;
}

Result<std::vector<Row>> rows_of(const JsonView& view, std::string_view member, Row head, const std::function<Result<Row>(const JsonView&)>& row_of) {
  std::vector<Row> rows{std::move(head)};
  const auto items = TRY_PLAIN(view.at(member));
  if (items.is_set()) TRY_PLAIN(items.for_each_element([&](const JsonView& item) -> Status {
    rows.push_back(TRY_PLAIN(row_of(item)));
    return {};
  }));
  return rows;
}

Status print_targets(Output& out, const json::value& answer) {
  const json::value wrapped = json::object{{"targets", answer}};
  print_rows(out, TRY_PLAIN(rows_of(JsonView(wrapped), "targets", {"TARGET", "DESCRIPTION"}, [](const JsonView& item) -> Result<Row> {
    auto name = TRY_PLAIN(text_of(item, "name"));
    bool is_default = false;
    TRY_PLAIN(item.read("default", is_default));
    if (is_default) name += name.empty() ? "(default)" : " (default)";
    return Row{std::move(name), TRY_PLAIN(text_of(item, "description"))};
  })));
  return {};
}

Status print_outline(Output& out, const json::value& answer) {
  const JsonView view(answer);
  const auto name = TRY_PLAIN(text_of(view, "name"));
  const auto description = TRY_PLAIN(text_of(view, "description"));
  if (!name.empty()) out.line(concat("TARGET:        ", name));
  if (!description.empty()) out.line(concat("DESCRIPTION:   ", description));
  bool has_table = !name.empty() || !description.empty();
  auto print = [&](const std::vector<Row>& rows) {
    if (rows.size() < 2) return;
    if (has_table) out.line("");
    has_table = true;
    print_rows(out, rows);
  };
  print(TRY_PLAIN(rows_of(view, "args", {"BUILD ARG", "VALUE", "DESCRIPTION"}, [](const JsonView& item) -> Result<Row> {
    return Row{TRY_PLAIN(text_of(item, "name")), TRY_PLAIN(text_of(item, "value")), TRY_PLAIN(text_of(item, "description"))};
  })));
  auto need = [](const JsonView& item) -> Result<Row> {
    bool is_required = false;
    TRY_PLAIN(item.read("required", is_required));
    return Row{TRY_PLAIN(text_of(item, "name")), is_required ? "true" : ""};
  };
  print(TRY_PLAIN(rows_of(view, "secrets", {"SECRET", "REQUIRED"}, need)));
  print(TRY_PLAIN(rows_of(view, "ssh", {"SSH", "REQUIRED"}, need)));
  print(TRY_PLAIN(rows_of(view, "cache", {"CACHE MOUNT"}, [](const JsonView& item) -> Result<Row> { return Row{TRY_PLAIN(text_of(item, "ID"))}; })));
  return {};
}

}  // namespace

Result<BuildCallFlags> parse_build_call(const Invocation& invocation) {
  BuildCallFlags flags;
  const auto text = invocation.text("call");
  const auto words = split(text, ',');
  flags.call = words.front();
  if (flags.call == "lint") flags.call = "check";
  if (flags.call.empty()) flags.call = "build";
  for (auto option : std::span(words).subspan(1)) {
    if (option == "format=json") flags.prints_json = true;
    else if (option != "format=text" && option != "format=table") return Error(ErrorKind::invalid, concat("--call: unexpected option '", option, "' in ", text, ": want format=json or format=text"));
  }
  if (flags.call != "build" && flags.call != "check" && flags.call != "outline" && flags.call != "targets")
    return Error(ErrorKind::invalid, concat("--call ", flags.call, ": want build, check, outline or targets"));
  if (invocation.flag("check") && invocation.has("call") && flags.call != "check") return Error(ErrorKind::invalid, concat("--check and --call ", flags.call, " do not go together"));
  if (invocation.flag("check")) flags.call = "check";
  if (flags.prints_json && (flags.call == "build" || flags.call == "check")) return Error(ErrorKind::invalid, concat("--call ", text, ": outline and targets are printed as JSON")).with_hint("--progress json has what a check finds as JSON");
  return flags;
}

Status print_build_answer(Output& out, const BuildCallFlags& flags, const json::value& answer) {
  if (flags.prints_json) {
    out.line(flags.call == "targets" ? to_text(json::object{{"targets", answer}}) : to_text(answer));
    return out.flush();
  }
  TRY(flags.call == "targets" ? print_targets(out, answer) : print_outline(out, answer), "the daemon's answer");
  return out.flush();
}

}  // namespace caisson::cli
