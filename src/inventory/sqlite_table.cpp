// B-tree pages, cells, overflow chains and records.
#include "inventory/sqlite_table.hpp"

#include <algorithm>
#include <cstdint>
#include <optional>

#include "base/strings.hpp"

namespace caisson::inventory {

namespace {

constexpr std::string_view magic("SQLite format 3\0", 16);
constexpr std::size_t file_header_bytes = 100;
constexpr std::size_t most_depth = 32;
constexpr std::size_t most_columns = 256;
constexpr std::uint8_t interior_table = 5;
constexpr std::uint8_t leaf_table = 13;

Error corrupt(std::string_view why) { return {ErrorKind::corrupt, concat("SQLite file: ", why)}; }

/// Bytes that are read from the front; every read says whether they were there.
class Cursor {
 public:
  explicit Cursor(std::string_view bytes) : bytes_(bytes) {}
  std::optional<std::uint64_t> big_endian(std::size_t size) {
    if (bytes_.size() < size) return std::nullopt;
    std::uint64_t out = 0;
    for (std::size_t i = 0; i < size; ++i) out = out << 8U | static_cast<std::uint8_t>(bytes_[i]);
    bytes_.remove_prefix(size);
    return out;
  }
  /// Section 1.6 of the format: seven bits a byte, all eight of the ninth.
  std::optional<std::uint64_t> varint() {
    std::uint64_t out = 0;
    for (std::size_t i = 0; i < 9 && i < bytes_.size(); ++i) {
      const auto byte = static_cast<std::uint8_t>(bytes_[i]);
      const bool is_last = i == 8 || (byte & 0x80U) == 0;
      out = i == 8 ? out << 8U | byte : out << 7U | (byte & 0x7FU);
      if (!is_last) continue;
      bytes_.remove_prefix(i + 1);
      return out;
    }
    return std::nullopt;
  }
  [[nodiscard]] std::string_view rest() const { return bytes_; }

 private:
  std::string_view bytes_;
};

class Reader {
 public:
  static Result<Reader> open(std::string_view file);
  using Visit = std::function<Status(const SqliteRow&, const std::vector<std::uint64_t>& numbers)>;
  Status walk(std::uint64_t page_number, const Visit& visit) { return walk_page(page_number, 0, visit); }

 private:
  Reader(std::string_view file, std::size_t page_bytes, std::size_t usable_bytes)
      : file_(file), page_bytes_(page_bytes), usable_bytes_(usable_bytes), pages_left_(file.size() / page_bytes), overflow_left_(file.size() / page_bytes) {}
  Result<std::string_view> page(std::uint64_t number) const;
  Status walk_page(std::uint64_t number, std::size_t depth, const Visit& visit);
  Result<std::string> payload(std::string_view cell, std::uint64_t size);
  static Status record(std::string_view bytes, SqliteRow& texts, std::vector<std::uint64_t>& numbers);

  std::string_view file_;
  std::size_t page_bytes_;
  std::size_t usable_bytes_;
  /// A tree visits each of its pages once, and a page belongs to one row at most: whoever visits more goes in a circle.
  std::uint64_t pages_left_;
  std::uint64_t overflow_left_;
};

Result<Reader> Reader::open(std::string_view file) {
  if (file.size() < file_header_bytes || !file.starts_with(magic)) return corrupt("it does not begin like one");
  auto page = *Cursor(file.substr(16)).big_endian(2);
  const std::size_t page_bytes = page == 1 ? 65'536 : page;
  const auto reserved = static_cast<std::uint8_t>(file[20]);
  if (page_bytes < 512 || (page_bytes & (page_bytes - 1)) != 0 || page_bytes - reserved < 480) return corrupt(concat("pages of ", page_bytes, " bytes"));
  if (file.size() < page_bytes) return corrupt("it is shorter than a page");
  return Reader(file, page_bytes, page_bytes - reserved);
}

Result<std::string_view> Reader::page(std::uint64_t number) const {
  if (number == 0 || number > file_.size() / page_bytes_) return corrupt(concat("page ", number, " is not there"));
  return file_.substr((number - 1) * page_bytes_, page_bytes_);
}

/// Section 1.6: what does not fit into the cell goes on in a chain of overflow pages.
Result<std::string> Reader::payload(std::string_view cell, std::uint64_t size) {
  if (size > file_.size()) return corrupt("a row is larger than the file");
  const std::uint64_t most_local = usable_bytes_ - 35;
  const std::uint64_t least_local = (usable_bytes_ - 12) * 32 / 255 - 23;
  std::uint64_t local = size;
  if (size > most_local) {
    const auto fitting = least_local + (size - least_local) % (usable_bytes_ - 4);
    local = fitting <= most_local ? fitting : least_local;
  }
  if (cell.size() < local) return corrupt("a row leaves its page");
  std::string out(cell.substr(0, local));
  if (local == size) return out;
  auto next = Cursor(cell.substr(local)).big_endian(4);
  while (out.size() < size) {
    if (!next) return corrupt("a row leaves its page");
    if (overflow_left_-- == 0) return corrupt("overflow pages in a circle");
    const auto bytes = TRY_PLAIN(page(*next));
    const auto take = std::min<std::uint64_t>(size - out.size(), usable_bytes_ - 4);
    out += bytes.substr(4, take);
    next = Cursor(bytes).big_endian(4);
  }
  return out;
}

/// Section 2.1: a header of types, then the values.
Status Reader::record(std::string_view bytes, SqliteRow& texts, std::vector<std::uint64_t>& numbers) {
  Cursor header(bytes);
  const auto header_bytes = header.varint();
  if (!header_bytes || *header_bytes > bytes.size()) return corrupt("a row has no header");
  auto values = bytes.substr(*header_bytes);
  const auto behind = bytes.size() - *header_bytes;
  while (header.rest().size() > behind) {
    const auto type = header.varint();
    if (!type || texts.size() == most_columns) return corrupt("a row's header is damaged");
    constexpr std::size_t number_bytes[] = {0, 1, 2, 3, 4, 6, 8, 8, 0, 0, 0, 0};
    const std::uint64_t size = *type >= 12 ? (*type - 12) / 2 : number_bytes[*type];
    if (size > values.size()) return corrupt("a row is shorter than its header says");
    texts.emplace_back(*type >= 12 ? values.substr(0, size) : std::string_view());
    numbers.push_back(*type >= 12 ? 0 : *type == 9 ? 1 : Cursor(values).big_endian(size).value_or(0));
    values.remove_prefix(size);
  }
  return {};
}

Status Reader::walk_page(std::uint64_t number, std::size_t depth, const Visit& visit) {
  if (depth == most_depth) return corrupt("its tree is too deep");
  if (pages_left_-- == 0) return corrupt("its pages lead in a circle");
  const auto bytes = TRY_PLAIN(page(number));
  const auto header = bytes.substr(number == 1 ? file_header_bytes : 0);
  const auto type = static_cast<std::uint8_t>(header[0]);
  if (type != interior_table && type != leaf_table) return corrupt(concat("page ", number, " is no part of a table"));
  const std::size_t header_bytes = type == interior_table ? 12 : 8;
  const auto cells = *Cursor(header.substr(3)).big_endian(2);
  if (header.size() < header_bytes + cells * 2) return corrupt(concat("page ", number, " announces ", cells, " cells"));
  for (std::uint64_t i = 0; i < cells; ++i) {
    const auto at = *Cursor(header.substr(header_bytes + i * 2)).big_endian(2);
    if (at >= bytes.size()) return corrupt(concat("page ", number, ": a cell lies outside"));
    Cursor cell(bytes.substr(at));
    if (type == interior_table) {
      const auto child = cell.big_endian(4);
      if (!child) return corrupt(concat("page ", number, ": a cell lies outside"));
      TRY_PLAIN(walk_page(*child, depth + 1, visit));
      continue;
    }
    const auto size = cell.varint();
    const auto row_id = cell.varint();
    if (!size || !row_id) return corrupt(concat("page ", number, ": a cell is damaged"));
    SqliteRow texts;
    std::vector<std::uint64_t> numbers;
    TRY_PLAIN(record(TRY_PLAIN(payload(cell.rest(), *size)), texts, numbers));
    TRY_PLAIN(visit(texts, numbers));
  }
  if (type == leaf_table) return {};
  return walk_page(*Cursor(header.substr(8)).big_endian(4), depth + 1, visit);
}

}  // namespace

Status for_each_sqlite_row(std::string_view file, std::string_view table, const std::function<Status(const SqliteRow&)>& visit) {
  auto schema = TRY_PLAIN(Reader::open(file));
  std::optional<std::uint64_t> root;
  // Page 1 is the schema: type, name, tbl_name, rootpage, sql.
  TRY_PLAIN(schema.walk(1, [&](const SqliteRow& row, const std::vector<std::uint64_t>& numbers) -> Status {
    if (row.size() >= 4 && row[0] == "table" && row[1] == table) root = numbers[3];
    return {};
  }));
  if (!root) return Error(ErrorKind::not_found, concat("SQLite file: it has no table ", table));
  auto reader = TRY_PLAIN(Reader::open(file));
  return reader.walk(*root, [&](const SqliteRow& row, const std::vector<std::uint64_t>&) { return visit(row); });
}

}  // namespace caisson::inventory
