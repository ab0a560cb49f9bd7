// Calendar arithmetic without locale or time zone files.
#include "base/time.hpp"

#include <array>
#include <cstdio>
#include <ctime>

#include "base/strings.hpp"

namespace caisson {

namespace {
constexpr std::int64_t second_ns = 1'000'000'000;

std::int64_t read_clock(clockid_t clock) {
  timespec time{};
  clock_gettime(clock, &time);
  return static_cast<std::int64_t>(time.tv_sec) * second_ns + time.tv_nsec;
}

// Days since 1970-01-01 of a proleptic Gregorian date (Howard Hinnant's chrono-compatible algorithm, from the public description).
std::int64_t days_from_civil(std::int64_t year, std::int64_t month, std::int64_t day) {
  year -= month <= 2 ? 1 : 0;
  std::int64_t era = (year >= 0 ? year : year - 399) / 400;
  std::int64_t year_of_era = year - era * 400;
  std::int64_t day_of_year = (153 * (month + (month > 2 ? -3 : 9)) + 2) / 5 + day - 1;
  std::int64_t day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
  return era * 146097 + day_of_era - 719468;
}
}  // namespace

TimestampNs now_ns() { return read_clock(CLOCK_REALTIME); }
std::int64_t monotonic_ns() { return read_clock(CLOCK_MONOTONIC); }

std::string to_rfc3339(TimestampNs time) {
  if (time == 0) return "0001-01-01T00:00:00Z";
  std::int64_t seconds = time / second_ns;
  std::int64_t fraction = time % second_ns;
  if (fraction < 0) {
    fraction += second_ns;
    --seconds;
  }
  tm parts{};
  time_t whole = static_cast<time_t>(seconds);
  gmtime_r(&whole, &parts);
  std::array<char, 64> buffer{};
  std::snprintf(buffer.data(), buffer.size(), "%04d-%02d-%02dT%02d:%02d:%02d.%09ldZ", parts.tm_year + 1900, parts.tm_mon + 1,
                parts.tm_mday, parts.tm_hour, parts.tm_min, parts.tm_sec, static_cast<long>(fraction));
  return buffer.data();
}

Result<TimestampNs> parse_rfc3339(std::string_view text) {
  auto bad = [&] { return Error(ErrorKind::invalid, concat("invalid time \"", text, "\": want RFC 3339")); };
  std::string_view rest = text;
  auto number = [&](std::size_t digits, char after) -> std::int64_t {
    if (rest.size() < digits) return -1;
    auto value = parse_integer<std::uint32_t>(rest.substr(0, digits));
    rest.remove_prefix(digits);
    if (after != 0) {
      if (rest.empty() || (rest[0] != after && !(after == 'T' && (rest[0] == ' ' || rest[0] == 't')))) return -1;
      rest.remove_prefix(1);
    }
    return value.ok() ? static_cast<std::int64_t>(*value) : -1;
  };
  std::int64_t year = number(4, '-');
  std::int64_t month = number(2, '-');
  std::int64_t day = number(2, 'T');
  std::int64_t hour = number(2, ':');
  std::int64_t minute = number(2, ':');
  std::int64_t second = number(2, 0);
  if (year < 0 || month < 1 || month > 12 || day < 1 || day > 31 || hour < 0 || hour > 24 || minute < 0 || minute > 59 ||
      second < 0 || second > 60)
    return bad();
  std::int64_t fraction = 0;
  if (!rest.empty() && rest[0] == '.') {
    rest.remove_prefix(1);
    std::int64_t unit = second_ns / 10;
    std::size_t digits = 0;
    while (digits < rest.size() && rest[digits] >= '0' && rest[digits] <= '9') {
      fraction += (rest[digits] - '0') * unit;
      unit /= 10;
      ++digits;
    }
    if (digits == 0 || digits > 9) return bad();
    rest.remove_prefix(digits);
  }
  std::int64_t offset_seconds = 0;
  if (rest == "Z" || rest == "z" || rest.empty()) {
    rest = {};
  } else if (rest.size() == 6 && (rest[0] == '+' || rest[0] == '-')) {
    int sign = rest[0] == '+' ? 1 : -1;
    rest.remove_prefix(1);
    std::int64_t hours = number(2, ':');
    std::int64_t minutes = number(2, 0);
    if (hours < 0 || minutes < 0) return bad();
    offset_seconds = sign * (hours * 3600 + minutes * 60);
  }
  if (!rest.empty()) return bad();
  if (year == 1 && month == 1 && day == 1) return TimestampNs{0};
  if (year < 1678 || year > 2261) return bad();  // what int64 nanoseconds can hold
  return ((days_from_civil(year, month, day) * 24 + hour) * 60 + minute) * 60 * second_ns +
         (second - offset_seconds) * second_ns + fraction;
}

Result<std::int64_t> parse_duration_ns(std::string_view text) {
  auto bad = [&] { return Error(ErrorKind::invalid, concat("invalid duration \"", text, "\"")); };
  std::string_view rest = text;
  bool negative = false;
  if (!rest.empty() && (rest[0] == '-' || rest[0] == '+')) {
    negative = rest[0] == '-';
    rest.remove_prefix(1);
  }
  if (rest == "0") return std::int64_t{0};
  if (rest.empty()) return bad();
  double total = 0;
  while (!rest.empty()) {
    auto digits = rest.find_first_not_of("0123456789.");
    if (digits == std::string_view::npos || digits == 0) return bad();
    double number = 0;
    auto end = std::from_chars(rest.data(), rest.data() + digits, number);
    if (end.ec != std::errc{} || end.ptr != rest.data() + digits) return bad();
    rest.remove_prefix(digits);
    auto letters = rest.find_first_of("0123456789.");
    std::string_view unit = rest.substr(0, letters);
    rest.remove_prefix(unit.size());
    double factor = unit == "ns" ? 1 : unit == "us" || unit == "µs" ? 1e3 : unit == "ms" ? 1e6 : unit == "s" ? 1e9
                  : unit == "m" ? 60e9 : unit == "h" ? 3600e9 : 0;
    if (factor == 0) return bad();
    total += number * factor;
  }
  if (total > 9.2e18) return bad();
  auto value = static_cast<std::int64_t>(total);
  return negative ? -value : value;
}

Result<TimestampNs> parse_point_in_time(std::string_view text, TimestampNs now) {
  if (text.find_first_not_of("0123456789.") == std::string_view::npos && !text.empty()) {
    auto halves = split_once(text, '.');
    auto seconds = parse_integer<std::int64_t>(halves.before);
    if (!seconds || *seconds > INT64_MAX / second_ns - 1)
      return Error(ErrorKind::invalid, concat("invalid time \"", text, "\""));
    std::int64_t fraction = 0;
    std::int64_t unit = second_ns / 10;
    for (char c : halves.after) {
      if (c == '.') return Error(ErrorKind::invalid, concat("invalid time \"", text, "\""));
      fraction += (c - '0') * unit;
      unit /= 10;
    }
    return *seconds * second_ns + fraction;
  }
  if (auto duration = parse_duration_ns(text); duration.ok()) return now - *duration;
  if (text.size() == 10) return parse_rfc3339(concat(text, "T00:00:00Z"));
  return parse_rfc3339(text);
}

std::string human_duration(std::int64_t duration_ns) {
  std::int64_t seconds = duration_ns / second_ns;
  if (seconds < 1) return "Less than a second";
  if (seconds == 1) return "1 second";
  if (seconds < 60) return concat(seconds, " seconds");
  std::int64_t minutes = seconds / 60;
  if (minutes == 1) return "About a minute";
  if (minutes < 60) return concat(minutes, " minutes");
  std::int64_t hours = (seconds + 1800) / 3600;
  if (hours == 1) return "About an hour";
  if (hours < 48) return concat(hours, " hours");
  if (hours < 24 * 7 * 2) return concat(hours / 24, " days");
  if (hours < 24 * 30 * 2) return concat(hours / 24 / 7, " weeks");
  if (hours < 24 * 365 * 2) return concat(hours / 24 / 30, " months");
  return concat(hours / 24 / 365, " years");
}

}  // namespace caisson
