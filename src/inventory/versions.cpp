// Three grammars, three orders.
#include "inventory/versions.hpp"

#include <algorithm>
#include <array>
#include <cstdint>

#include "base/strings.hpp"

namespace caisson::inventory {

namespace {

bool is_digit(char c) { return c >= '0' && c <= '9'; }
bool is_letter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }

/// Takes the digits at the front.
std::string_view take_digits(std::string_view& text) {
  std::size_t count = 0;
  while (count < text.size() && is_digit(text[count])) ++count;
  const auto out = text.substr(0, count);
  text.remove_prefix(count);
  return out;
}

/// Numbers of any length: without leading zeros the longer one is larger.
int compare_numbers(std::string_view a, std::string_view b) {
  a.remove_prefix(std::min(a.find_first_not_of('0'), a.size()));
  b.remove_prefix(std::min(b.find_first_not_of('0'), b.size()));
  if (a.size() != b.size()) return a.size() < b.size() ? -1 : 1;
  const int order = a.compare(b);
  return order < 0 ? -1 : order > 0 ? 1 : 0;
}

struct Parts {
  std::string_view epoch;
  std::string_view version;
  std::string_view revision;
  bool has_revision = false;
};

Parts cut(std::string_view text) {
  Parts out;
  text = trim(text);
  if (const auto colon = text.find(':'); colon != std::string_view::npos && std::all_of(text.begin(), text.begin() + static_cast<std::ptrdiff_t>(colon), is_digit)) {
    out.epoch = text.substr(0, colon);
    text.remove_prefix(colon + 1);
  }
  const auto halves = split_last(text, '-');
  out.version = halves.found ? halves.before : text;
  out.revision = halves.found ? halves.after : std::string_view();
  out.has_revision = halves.found;
  return out;
}

/// deb-version(7): letters before everything that is none, "~" before the end itself.
int deb_weight(char c) {
  if (c == '~') return -1;
  if (is_digit(c)) return 0;
  if (is_letter(c)) return static_cast<unsigned char>(c);
  return static_cast<unsigned char>(c) + 256;
}

/// Runs of other characters and runs of digits by turns.
int compare_deb_part(std::string_view a, std::string_view b) {
  while (!a.empty() || !b.empty()) {
    while ((!a.empty() && !is_digit(a.front())) || (!b.empty() && !is_digit(b.front()))) {
      const int left = a.empty() ? 0 : deb_weight(a.front());
      const int right = b.empty() ? 0 : deb_weight(b.front());
      if (left != right) return left < right ? -1 : 1;
      // Equal weights are equal characters, or both are at digits or ends.
      if (!a.empty() && !is_digit(a.front())) a.remove_prefix(1);
      if (!b.empty() && !is_digit(b.front())) b.remove_prefix(1);
    }
    if (const int order = compare_numbers(take_digits(a), take_digits(b)); order != 0) return order;
  }
  return 0;
}

/// rpmvercmp: segments of digits or letters; whatever stands between them only divides, but for "~" (before the end) and "^" (behind the end).
int compare_rpm_part(std::string_view a, std::string_view b) {
  if (a == b) return 0;
  auto is_divider = [](char c) { return !is_digit(c) && !is_letter(c) && c != '~' && c != '^'; };
  auto skip = [&](std::string_view& text) {
    while (!text.empty() && is_divider(text.front())) text.remove_prefix(1);
  };
  auto begins = [](std::string_view text, char c) { return !text.empty() && text.front() == c; };
  while (!a.empty() || !b.empty()) {
    skip(a);
    skip(b);
    if (begins(a, '~') || begins(b, '~')) {
      if (!begins(a, '~')) return 1;
      if (!begins(b, '~')) return -1;
      a.remove_prefix(1);
      b.remove_prefix(1);
      continue;
    }
    if (begins(a, '^') || begins(b, '^')) {
      if (a.empty()) return -1;
      if (b.empty()) return 1;
      if (!begins(a, '^')) return 1;
      if (!begins(b, '^')) return -1;
      a.remove_prefix(1);
      b.remove_prefix(1);
      continue;
    }
    if (a.empty() || b.empty()) break;
    const bool is_number = is_digit(a.front());
    auto take = [&](std::string_view& text) {
      std::size_t count = 0;
      while (count < text.size() && (is_number ? is_digit(text[count]) : is_letter(text[count]))) ++count;
      const auto out = text.substr(0, count);
      text.remove_prefix(count);
      return out;
    };
    const auto left = take(a);
    const auto right = take(b);
    if (right.empty()) return is_number ? 1 : -1;  // of other kinds the number is newer
    const int order = is_number ? compare_numbers(left, right) : left.compare(right);
    if (order != 0) return order < 0 ? -1 : 1;
  }
  if (a.empty() && b.empty()) return 0;
  return a.empty() ? -1 : 1;
}

/// A version of apk is read token by token, each of a kind; the kinds' order decides when one version goes on differently than the other.
enum class ApkToken : std::uint8_t { invalid, first_number, number, letter, suffix, suffix_number, revision, end };

constexpr std::array<std::string_view, 4> apk_before = {"alpha", "beta", "pre", "rc"};  // older than without
constexpr std::array<std::string_view, 5> apk_behind = {"cvs", "svn", "git", "hg", "p"};

class ApkReader {
 public:
  explicit ApkReader(std::string_view text) : rest_(text) {}
  [[nodiscard]] ApkToken kind() const { return kind_; }
  /// The value of the token at hand, as a place in its kind's order; then goes on to the next one.
  std::string take();
  [[nodiscard]] bool is_older_suffix() const {
    return kind_ == ApkToken::suffix && std::any_of(apk_before.begin(), apk_before.end(), [&](auto name) { return rest_.starts_with(name); });
  }

 private:
  void advance();
  std::string_view rest_;
  ApkToken kind_ = ApkToken::number;
};

void ApkReader::advance() {
  const auto last = kind_;
  const bool was_number = last == ApkToken::number || last == ApkToken::first_number;
  if (rest_.empty()) kind_ = ApkToken::end;
  else if (was_number && rest_.front() >= 'a' && rest_.front() <= 'z') kind_ = ApkToken::letter;
  else if (last == ApkToken::letter && is_digit(rest_.front())) kind_ = ApkToken::number;
  else if (last == ApkToken::suffix && is_digit(rest_.front())) kind_ = ApkToken::suffix_number;
  else if (rest_.front() == '.' && was_number) kind_ = ApkToken::first_number;
  else if (rest_.front() == '_') kind_ = ApkToken::suffix;
  else if (rest_.starts_with("-r")) kind_ = ApkToken::revision;
  else kind_ = ApkToken::invalid;
  if (kind_ == ApkToken::first_number || kind_ == ApkToken::suffix) rest_.remove_prefix(1);
  if (kind_ == ApkToken::revision) rest_.remove_prefix(2);
  const bool goes_back = kind_ == ApkToken::suffix && last == ApkToken::revision;
  if (goes_back) kind_ = ApkToken::invalid;
}

/// Texts that compare as the values do: numbers get their length in front.
std::string ApkReader::take() {
  auto ordered = [](std::string_view digits) {
    digits.remove_prefix(std::min(digits.find_first_not_of('0'), digits.size()));
    const auto length = concat(digits.size());
    return concat(std::string(6 - std::min<std::size_t>(length.size(), 6), '0'), length, digits);
  };
  std::string out;
  switch (kind_) {
    case ApkToken::first_number:
      // Behind a dot, leading zeros make a fraction of it: 1.05 is older than 1.5, and than 1.1; more zeros are older.
      if (!rest_.empty() && rest_.front() == '0') {
        const auto digits = take_digits(rest_);
        const auto zeros = std::min(digits.find_first_not_of('0'), digits.size());
        constexpr std::size_t most_zeros = 999'999;
        out = concat("0", most_zeros - std::min(zeros, most_zeros - 100'000), ordered(digits));
        break;
      }
      out = concat("1", ordered(take_digits(rest_)));
      break;
    case ApkToken::number:
    case ApkToken::suffix_number:
    case ApkToken::revision: out = ordered(take_digits(rest_)); break;
    case ApkToken::letter:
      out = rest_.front();
      rest_.remove_prefix(1);
      break;
    case ApkToken::suffix: {
      std::size_t place = 0;
      auto look = [&](auto& names) {
        for (auto name : names) {
          ++place;
          if (!out.empty() || !rest_.starts_with(name)) continue;
          out = concat(place);
          rest_.remove_prefix(name.size());
        }
      };
      look(apk_before);
      look(apk_behind);
      if (out.empty()) {
        kind_ = ApkToken::invalid;
        return out;
      }
      break;
    }
    case ApkToken::end:
    case ApkToken::invalid: return out;
  }
  advance();
  return out;
}

}  // namespace

int compare_deb_versions(std::string_view a, std::string_view b) {
  const auto left = cut(a);
  const auto right = cut(b);
  if (const int order = compare_numbers(left.epoch, right.epoch); order != 0) return order;
  if (const int order = compare_deb_part(left.version, right.version); order != 0) return order;
  return compare_deb_part(left.revision, right.revision);
}

int compare_rpm_versions(std::string_view a, std::string_view b) {
  const auto left = cut(a);
  const auto right = cut(b);
  if (const int order = compare_numbers(left.epoch, right.epoch); order != 0) return order;
  if (const int order = compare_rpm_part(left.version, right.version); order != 0) return order;
  return left.has_revision && right.has_revision ? compare_rpm_part(left.revision, right.revision) : 0;
}

int compare_apk_versions(std::string_view a, std::string_view b) {
  ApkReader left(a);
  ApkReader right(b);
  while (left.kind() == right.kind() && left.kind() != ApkToken::end && left.kind() != ApkToken::invalid) {
    const auto first = left.take();
    const auto second = right.take();
    if (first != second) return first < second ? -1 : 1;
  }
  if (left.kind() == right.kind()) return 0;
  // One goes on where the other does not: that one is newer, unless what follows says "before".
  if (left.is_older_suffix()) return -1;
  if (right.is_older_suffix()) return 1;
  return left.kind() > right.kind() ? -1 : 1;
}

int compare_versions(PackageKind kind, std::string_view a, std::string_view b) {
  switch (kind) {
    case PackageKind::deb: return compare_deb_versions(a, b);
    case PackageKind::apk: return compare_apk_versions(a, b);
    case PackageKind::rpm: return compare_rpm_versions(a, b);
  }
  return 0;
}

}  // namespace caisson::inventory
