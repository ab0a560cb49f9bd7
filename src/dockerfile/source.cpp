// Where an error stands: the line of the file and carets below the words that are wrong.
#include "dockerfile/source.hpp"

#include <algorithm>
#include <vector>

#include "base/strings.hpp"

namespace caisson::dockerfile {

namespace {

constexpr std::size_t most_shown_bytes = 160;  // a terminal's line or two; a Dockerfile's line may have 64 KiB

std::string_view line_at(std::string_view text, std::uint32_t number) {
  std::size_t start = 0;
  for (std::uint32_t line = 1; line < number; ++line) {
    auto end = text.find('\n', start);
    if (end == std::string_view::npos) return {};
    start = end + 1;
  }
  auto line = text.substr(start, text.find('\n', start) - start);
  if (line.ends_with('\r')) line.remove_suffix(1);
  return line;
}

struct Place {
  std::uint32_t line = 0;
  std::size_t column = 0;
  std::size_t width = 1;
};

Place find_place(std::string_view text, Lines lines, std::string_view piece) {
  if (!piece.empty() && piece.find('\n') == std::string_view::npos) {
    for (auto line = lines.first; line <= lines.last; ++line) {
      auto column = line_at(text, line).find(piece);
      if (column != std::string_view::npos) return {line, column, piece.size()};
    }
  }
  auto line = line_at(text, lines.first);
  auto start = std::min(line.find_first_not_of(" \t"), line.size());
  auto end = std::min(line.find_first_of(" \t", start), line.size());
  return {lines.first, start, std::max<std::size_t>(end - start, 1)};
}

/// Control characters would move the carets, or the terminal.
std::string printable(std::string_view text) {
  std::string out;
  for (char c : text) out += static_cast<unsigned char>(c) < 0x20 || c == 0x7f ? ' ' : c;
  return out;
}

}  // namespace

std::string show_place(const Source& source, Lines lines, std::string_view piece, std::string_view message) {
  auto place = find_place(source.text, lines, piece);
  auto line = line_at(source.text, place.line);
  std::size_t cut = place.column > most_shown_bytes / 2 ? place.column - most_shown_bytes / 4 : 0;
  auto shown = printable(line.substr(std::min(cut, line.size()), most_shown_bytes));
  auto column = place.column - cut;
  std::size_t width = column < shown.size() ? std::min(place.width, shown.size() - column) : 1;
  std::string number = concat(place.line);
  if (number.size() < 4) number.insert(0, 4 - number.size(), ' ');
  return concat(message, "\n", source.name, ":", place.line, "\n", number, " | ", shown, "\n", std::string(number.size(), ' '), " | ", std::string(column, ' '),
                std::string(width, '^'));
}

Error parse_error(const Source& source, Lines lines, std::string_view piece, std::string_view message) {
  return {ErrorKind::invalid, show_place(source, lines, piece, concat("dockerfile parse error on line ", lines.first, ": ", message))};
}

std::string_view nearest(std::string_view word, const std::string_view* known, std::size_t count) {
  std::string_view best;
  std::size_t best_distance = 3;
  if (word.size() > 64) return best;
  for (std::size_t k = 0; k < count; ++k) {
    auto other = known[k];
    std::vector<std::size_t> row(other.size() + 1);
    for (std::size_t j = 0; j <= other.size(); ++j) row[j] = j;
    for (std::size_t i = 1; i <= word.size(); ++i) {
      std::size_t diagonal = row[0];
      row[0] = i;
      for (std::size_t j = 1; j <= other.size(); ++j) {
        auto above = row[j];
        row[j] = std::min({row[j] + 1, row[j - 1] + 1, diagonal + (word[i - 1] == other[j - 1] ? 0 : 1)});
        diagonal = above;
      }
    }
    if (row.back() < best_distance && row.back() < word.size()) {
      best = other;
      best_distance = row.back();
    }
  }
  return best;
}

}  // namespace caisson::dockerfile
