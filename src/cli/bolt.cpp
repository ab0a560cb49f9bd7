// Whatever the file says, no byte outside it is read, and every page is entered once at most, so that a walk ends.
#include "cli/bolt.hpp"

#include <cstring>
#include <optional>
#include <vector>

#include "base/strings.hpp"

namespace caisson::cli {

namespace {

constexpr std::uint32_t bolt_magic = 0xED0CDAED;
constexpr std::uint32_t bolt_version = 2;
constexpr std::size_t page_header_bytes = 16;
constexpr std::size_t element_bytes = 16;       // of branch and leaf pages alike
constexpr std::size_t bucket_header_bytes = 16;
constexpr std::uint32_t least_page_bytes = 512;
constexpr std::uint32_t most_page_bytes = 65536;
constexpr int deepest_tree = 64;  // bbolt's pages hold two children at least: no file is deeper
constexpr std::uint16_t branch_flag = 1;
constexpr std::uint16_t leaf_flag = 2;
constexpr std::uint32_t bucket_flag = 1;  // of a leaf's element

/// Precondition: the bytes are there.
template <typename T>
T number_at(std::string_view bytes, std::size_t offset) {
  T value{};
  std::memcpy(&value, bytes.data() + offset, sizeof value);
  return value;
}

std::optional<std::string_view> piece_of(std::string_view bytes, std::uint64_t offset, std::uint64_t length) {
  if (offset > bytes.size() || length > bytes.size() - offset) return std::nullopt;
  return bytes.substr(offset, length);
}

/// FNV-1a, 64 bits, as meta.sum64 has it.
std::uint64_t checksum_of(std::string_view bytes) {
  std::uint64_t sum = 14695981039346656037U;
  for (char byte : bytes) sum = (sum ^ static_cast<std::uint8_t>(byte)) * 1099511628211U;
  return sum;
}

/// magic, version, page size, flags, root page and sequence, freelist, pages in use, transaction, checksum of all before it.
struct Meta {
  std::uint32_t version = 0;
  std::uint32_t page_bytes = 0;
  std::uint64_t root_page = 0;
  std::uint64_t transaction = 0;
};
std::optional<Meta> meta_at(std::string_view bytes, std::uint64_t offset) {
  constexpr std::size_t summed_bytes = 56;
  auto record = piece_of(bytes, offset + page_header_bytes, summed_bytes + sizeof(std::uint64_t));
  if (!record || number_at<std::uint32_t>(*record, 0) != bolt_magic) return std::nullopt;
  if (number_at<std::uint64_t>(*record, summed_bytes) != checksum_of(record->substr(0, summed_bytes))) return std::nullopt;
  Meta meta;
  meta.version = number_at<std::uint32_t>(*record, 4);
  meta.page_bytes = number_at<std::uint32_t>(*record, 8);
  meta.root_page = number_at<std::uint64_t>(*record, 16);
  meta.transaction = number_at<std::uint64_t>(*record, 48);
  const bool is_power_of_two = (meta.page_bytes & (meta.page_bytes - 1)) == 0;
  if (!is_power_of_two || meta.page_bytes < least_page_bytes || meta.page_bytes > most_page_bytes) return std::nullopt;
  return meta;
}

/// The one that was written last. A crash can have torn the other, the first one too: then the second is looked for at every size a page may have.
std::optional<Meta> newest_meta(std::string_view bytes) {
  auto newest = meta_at(bytes, 0);
  for (std::uint32_t size = least_page_bytes; size <= most_page_bytes; size *= 2) {
    auto second = meta_at(bytes, size);
    if (second && second->page_bytes == size && (!newest || (newest->page_bytes == size && second->transaction > newest->transaction))) newest = second;
  }
  return newest;
}

/// One walk through a tree.
class Walk {
 public:
  using Element = std::function<Status(std::uint32_t flags, std::string_view key, std::string_view value)>;
  Walk(std::string_view bytes, std::uint32_t page_bytes) : bytes_(bytes), page_bytes_(page_bytes), is_seen_(bytes.size() / page_bytes) {}

  Status tree(std::uint64_t page, const Element& visit, int depth = 0);
  /// `page`: a page's bytes, at its header. One that lies in a bucket's value has no pages below it.
  Status elements(std::string_view page, const Element& visit, int depth, bool is_inline);

 private:
  Result<std::string_view> enter(std::uint64_t page);
  std::string_view bytes_;
  std::uint32_t page_bytes_;
  std::vector<bool> is_seen_;
};

Error broken(std::string_view text) { return {ErrorKind::corrupt, std::string(text)}; }

Result<std::string_view> Walk::enter(std::uint64_t page) {
  if (page >= is_seen_.size()) return broken(concat("page ", page, " lies behind the end"));
  auto header = bytes_.substr(page * page_bytes_, page_header_bytes);
  if (number_at<std::uint64_t>(header, 0) != page) return broken(concat("page ", page, " says that it is another"));
  const std::uint64_t further = number_at<std::uint32_t>(header, 12);
  if (further >= is_seen_.size() - page) return broken(concat("page ", page, " goes on behind the end"));
  for (std::uint64_t part = page; part <= page + further; ++part) {
    if (is_seen_[part]) return broken(concat("page ", part, " is in the tree twice"));
    is_seen_[part] = true;
  }
  return bytes_.substr(page * page_bytes_, (further + 1) * page_bytes_);
}

Status Walk::tree(std::uint64_t page, const Element& visit, int depth) {
  if (depth > deepest_tree) return broken("the tree is too deep");
  return elements(TRY_PLAIN(enter(page)), visit, depth, false);
}

Status Walk::elements(std::string_view page, const Element& visit, int depth, bool is_inline) {
  if (page.size() < page_header_bytes) return broken("a page is cut off");
  const auto flags = number_at<std::uint16_t>(page, 8);
  const std::size_t count = number_at<std::uint16_t>(page, 10);
  const bool is_branch = flags == branch_flag && !is_inline;
  if (!is_branch && flags != leaf_flag) return broken(concat("a page of kind ", flags, " in a tree"));
  for (std::size_t i = 0; i < count; ++i) {
    const std::size_t at = page_header_bytes + i * element_bytes;
    auto element = piece_of(page, at, element_bytes);
    if (!element) return broken("a page has more elements than room");
    if (is_branch) {
      TRY_PLAIN(tree(number_at<std::uint64_t>(*element, 8), visit, depth + 1));
      continue;
    }
    const std::uint64_t begin = at + number_at<std::uint32_t>(*element, 4);
    const std::uint64_t key_bytes = number_at<std::uint32_t>(*element, 8);
    auto key = piece_of(page, begin, key_bytes);
    auto value = piece_of(page, begin + key_bytes, number_at<std::uint32_t>(*element, 12));
    if (!key || !value) return broken("an element reaches out of its page");
    TRY_PLAIN(visit(number_at<std::uint32_t>(*element, 0), *key, *value));
  }
  return {};
}

}  // namespace

Result<BoltDatabase> BoltDatabase::open(std::string_view bytes, std::string what) {
  auto meta = newest_meta(bytes);
  if (!meta) return Error(ErrorKind::corrupt, concat(what, " is no BoltDB file, or both of its heads are damaged"));
  if (meta->version != bolt_version) return Error(ErrorKind::unsupported, concat(what, ": version ", meta->version, " of BoltDB's format is not known"));
  BoltDatabase database(bytes, std::move(what));
  database.page_bytes_ = meta->page_bytes;
  database.root_page_ = meta->root_page;
  return database;
}

Status BoltDatabase::for_each(std::string_view bucket, const Visitor& visit) const {
  Walk walk(bytes_, page_bytes_);
  std::optional<std::string_view> found;
  TRY(walk.tree(root_page_, [&](std::uint32_t flags, std::string_view key, std::string_view value) -> Status {
    if ((flags & bucket_flag) != 0 && key == bucket) found = value;
    return {};
  }), what_);
  if (!found) return {};
  if (found->size() < bucket_header_bytes) return broken(concat(what_, ": the bucket ", bucket, " is cut off"));
  const Walk::Element element = [&](std::uint32_t flags, std::string_view key, std::string_view value) -> Status {
    return (flags & bucket_flag) != 0 ? Status() : visit(key, value);
  };
  // A small bucket has no pages of its own: its only one stands behind its head.
  const auto root = number_at<std::uint64_t>(*found, 0);
  TRY(root != 0 ? walk.tree(root, element) : walk.elements(found->substr(bucket_header_bytes), element, 0, true), what_);
  return {};
}

}  // namespace caisson::cli
