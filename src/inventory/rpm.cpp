// rpm's database: headers in the rows of an SQLite table.
#include <limits>

#include "base/strings.hpp"
#include "inventory/databases.hpp"
#include "inventory/sqlite_table.hpp"

namespace caisson::inventory {

namespace {

// Tags and types of rpm's rpmtag.h.
enum class Tag : std::uint32_t { name = 1000, version = 1001, release = 1002, epoch = 1003, vendor = 1011, license = 1014, architecture = 1022, source_rpm = 1044 };
enum class Type : std::uint32_t { int32 = 4, string = 6, string_array = 8, i18n_string = 9 };

constexpr std::size_t index_entry_bytes = 16;
constexpr std::uint32_t most_entries = 65'536;
constexpr std::size_t most_packages = 200'000;

std::uint32_t number_at(std::string_view bytes, std::size_t at) {
  std::uint32_t out = 0;
  for (std::size_t i = 0; i < 4; ++i) out = out << 8U | static_cast<std::uint8_t>(bytes[at + i]);
  return out;
}

/// "bash-5.2.26-3.fc40.src.rpm" → "bash", "5.2.26-3.fc40".
void take_source(std::string_view file, Package& out) {
  if (file.ends_with(".src.rpm")) file.remove_suffix(std::string_view(".src.rpm").size());
  const auto release = split_last(file, '-');
  const auto version = split_last(release.before, '-');
  if (!release.found || !version.found) return;
  out.source = version.before;
  out.source_version = concat(version.after, "-", release.after);
}

struct Fields {
  std::string name, version, release, vendor, license, architecture, source_rpm;
  std::uint32_t epoch = 0;
  std::string* text_of(Tag tag) {
    switch (tag) {
      case Tag::name: return &name;
      case Tag::version: return &version;
      case Tag::release: return &release;
      case Tag::vendor: return &vendor;
      case Tag::license: return &license;
      case Tag::architecture: return &architecture;
      case Tag::source_rpm: return &source_rpm;
      case Tag::epoch: break;
    }
    return nullptr;
  }
};

Status take_entry(std::string_view entry, std::string_view data, Fields& out) {
  const auto tag = static_cast<Tag>(number_at(entry, 0));
  const auto type = static_cast<Type>(number_at(entry, 4));
  const auto offset = number_at(entry, 8);
  auto* text = out.text_of(tag);
  if (text == nullptr && tag != Tag::epoch) return {};
  if (offset > data.size()) return Error(ErrorKind::corrupt, concat("rpm header: tag ", static_cast<std::uint32_t>(tag), " lies behind its end"));
  if (tag == Tag::epoch) {
    if (type != Type::int32 || data.size() - offset < 4) return Error(ErrorKind::corrupt, "rpm header: the epoch is no number");
    out.epoch = number_at(data, offset);
    return {};
  }
  if (type != Type::string && type != Type::i18n_string && type != Type::string_array) return Error(ErrorKind::corrupt, concat("rpm header: tag ", static_cast<std::uint32_t>(tag), " is no text"));
  const auto end = data.find('\0', offset);
  if (end == std::string_view::npos) return Error(ErrorKind::corrupt, concat("rpm header: tag ", static_cast<std::uint32_t>(tag), " does not end"));
  *text = data.substr(offset, end - offset);
  return {};
}

}  // namespace

Result<Package> parse_rpm_header(std::string_view blob) {
  constexpr std::size_t counts_bytes = 8;
  if (blob.size() < counts_bytes) return Error(ErrorKind::corrupt, "rpm header: cut off");
  const auto entries = number_at(blob, 0);
  const std::size_t data_bytes = number_at(blob, 4);
  if (entries > most_entries || blob.size() - counts_bytes < entries * index_entry_bytes || blob.size() - counts_bytes - entries * index_entry_bytes < data_bytes)
    return Error(ErrorKind::corrupt, concat("rpm header: ", entries, " entries and ", data_bytes, " bytes of data do not fit into it"));
  const auto data = blob.substr(counts_bytes + entries * index_entry_bytes, data_bytes);
  Fields fields;
  for (std::uint32_t i = 0; i < entries; ++i) TRY_PLAIN(take_entry(blob.substr(counts_bytes + i * index_entry_bytes, index_entry_bytes), data, fields));
  if (fields.name.empty() || fields.version.empty()) return Error(ErrorKind::corrupt, "rpm header: no name or no version");
  Package out;
  out.kind = PackageKind::rpm;
  out.name = std::move(fields.name);
  out.version = concat(fields.epoch == 0 ? "" : concat(fields.epoch, ":"), fields.version, fields.release.empty() ? "" : "-", fields.release);
  out.architecture = std::move(fields.architecture);
  out.license = std::move(fields.license);
  out.maintainer = std::move(fields.vendor);
  take_source(fields.source_rpm, out);
  if (out.source.empty()) out.source = out.name;
  if (out.source_version.empty()) out.source_version = out.version;
  return out;
}

Result<std::vector<Package>> parse_rpm_database(std::string_view file) {
  std::vector<Package> out;
  // rpm's sqlite.c: Packages (hnum INTEGER PRIMARY KEY, blob BLOB NOT NULL).
  TRY_PLAIN(for_each_sqlite_row(file, "Packages", [&](const SqliteRow& row) -> Status {
    if (row.size() < 2) return Error(ErrorKind::corrupt, "rpm's database: a row of Packages has no header");
    auto package = TRY_PLAIN(parse_rpm_header(row[1]));
    if (package.name == "gpg-pubkey") return {};
    if (out.size() == most_packages) return Error(ErrorKind::corrupt, concat("rpm's database: more than ", most_packages, " packages"));
    out.push_back(std::move(package));
    return {};
  }));
  return out;
}

}  // namespace caisson::inventory
