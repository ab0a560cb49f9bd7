// signal(7), "Signal numbering for standard signals", and glibc's view of the real-time range.
#include "engine/signals.hpp"

#include <utility>

#include "base/strings.hpp"

namespace caisson::engine {

namespace {
constexpr std::pair<std::string_view, int> names[] = {
    {"hup", 1},   {"int", 2},   {"quit", 3},  {"ill", 4},    {"trap", 5},  {"abrt", 6},   {"iot", 6},   {"bus", 7},   {"fpe", 8},
    {"kill", 9},  {"usr1", 10}, {"segv", 11}, {"usr2", 12},  {"pipe", 13}, {"alrm", 14},  {"term", 15}, {"stkflt", 16},
    {"chld", 17}, {"cld", 17},  {"cont", 18}, {"stop", 19},  {"tstp", 20}, {"ttin", 21},  {"ttou", 22}, {"urg", 23},  {"xcpu", 24},
    {"xfsz", 25}, {"vtalrm", 26}, {"prof", 27}, {"winch", 28}, {"io", 29}, {"poll", 29},  {"pwr", 30},  {"sys", 31}};
constexpr int rt_min = 34;  // glibc keeps 32 and 33 for itself (signal(7)); programs in containers see its numbers
constexpr int rt_max = 64;
}  // namespace

Result<int> parse_signal(std::string_view text) {
  auto unknown = [&] { return Error(ErrorKind::invalid, concat("invalid signal: ", text)); };
  if (auto number = parse_integer<int>(text); number.ok()) {
    if (*number < 1 || *number > rt_max) return unknown();
    return *number;
  }
  std::string name = lower(text);
  std::string_view bare = name;
  if (bare.starts_with("sig")) bare.remove_prefix(3);
  for (const auto& [known, number] : names)
    if (bare == known) return number;
  for (bool from_min : {true, false}) {
    std::string_view prefix = from_min ? "rtmin" : "rtmax";
    if (!bare.starts_with(prefix)) continue;
    std::string_view rest = bare.substr(prefix.size());
    int offset = 0;
    if (!rest.empty()) {
      if (rest[0] != (from_min ? '+' : '-')) return unknown();
      auto parsed = parse_integer<int>(rest.substr(1));
      if (!parsed.ok() || *parsed < 0) return unknown();
      offset = *parsed;
    }
    int number = from_min ? rt_min + offset : rt_max - offset;
    if (number < rt_min || number > rt_max) return unknown();
    return number;
  }
  return unknown();
}

}  // namespace caisson::engine
