// Prune with a question in front.
#include "cli/prune.hpp"

#include <array>

#include "base/strings.hpp"
#include "cli/listing.hpp"
#include "cli/request.hpp"
#include "linux/file.hpp"

namespace caisson::cli {

namespace {

// One line from standard input; "" at its end.
std::string read_line() {
  std::string line;
  std::array<char, 1> c{};
  while (line.size() < 100) {
    auto count = linux::read(0, c);
    if (!count.ok() || *count == 0 || c[0] == '\n') break;
    line += c[0];
  }
  return line;
}

Result<bool> confirm(Session& session, std::string_view warning) {
  session.out().write(concat("WARNING! ", warning, "\n"));
  return ask_yes_or_no(session.out(), "Are you sure you want to continue?");
}

// Prints the section of one answer and returns the bytes it freed.
Result<std::uint64_t> report(Session& session, std::string_view collection, const json::value& answer) {
  JsonView view(answer);
  std::uint64_t freed = 0;
  TRY_PLAIN(view.read("SpaceReclaimed", freed));
  struct Section {
    std::string_view collection;
    std::string_view title;
    std::string_view field;
  };
  static constexpr std::array<Section, 5> sections = {{{"containers", "Containers", "ContainersDeleted"},
                                                       {"images", "Images", "ImagesDeleted"},
                                                       {"volumes", "Volumes", "VolumesDeleted"},
                                                       {"networks", "Networks", "NetworksDeleted"},
                                                       {"build", "build cache objects", "CachesDeleted"}}};
  for (const auto& section : sections) {
    if (section.collection != collection) continue;
    JsonView list = TRY_PLAIN(view.at(section.field));
    bool is_first = true;
    TRY_PLAIN(list.for_each_element([&](const JsonView& item) -> Status {
      if (is_first) session.out().line(concat("Deleted ", section.title, ":"));
      is_first = false;
      std::string text;
      if (item.is_set() && item.raw().is_object()) {  // images: {"Untagged": x} or {"Deleted": x}
        TRY_PLAIN(item.read("Untagged", text));
        if (!text.empty()) session.out().line(concat("untagged: ", text));
        text.clear();
        TRY_PLAIN(item.read("Deleted", text));
        if (!text.empty()) session.out().line(concat("deleted: ", text));
        return {};
      }
      TRY_PLAIN(item.read(text));
      session.out().line(text);
      return {};
    }));
    if (!is_first) session.out().line("");
  }
  return freed;
}

}  // namespace

Result<bool> ask_yes_or_no(Output& out, std::string_view question) {
  out.write(concat(question, " [y/N] "));
  TRY_PLAIN(out.flush());
  std::string answer = lower(trim(read_line()));
  return answer == "y" || answer == "yes";
}

Result<int> prune(Session& session, bool force, std::string_view warning, const std::vector<PruneStep>& steps) {
  if (!force && !TRY_PLAIN(confirm(session, warning))) return 0;
  std::uint64_t freed = 0;
  for (const auto& step : steps) {
    Query query;
    query.add_if(step.all, "all");
    query.add_filters(step.filters);
    auto answer = TRY_PLAIN(session.post(concat("/", step.collection, "/prune", query.text())));
    freed += TRY_PLAIN(report(session, step.collection, answer));
  }
  // Networks take no space, and docker says nothing of it for them alone.
  const bool only_networks = steps.size() == 1 && steps.front().collection == "networks";
  if (!only_networks) session.out().line(concat("Total reclaimed space: ", four_digit_size(freed)));
  return 0;
}

}  // namespace caisson::cli
