// Lists: aligned tables, --format json, templates and -q, for every list command alike.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.hpp"
#include "base/result.hpp"
#include "cli/output.hpp"
#include "cli/template.hpp"

namespace caisson::cli {

/// Rows of cells as an aligned table: columns at least 10 wide, 3 blanks between, none behind the last (docker's tabwriter).
/// Widths count characters, not bytes. Rows may have different lengths.
std::string align(const std::vector<std::vector<std::string>>& rows, std::size_t least_width = 10);

/// A field of a list's rows: what templates call it, and its column's title ("" when the default table has none for it).
struct Column {
  std::string_view field;
  std::string_view title;
};

/// One object as texts, ready to print.
struct Row {
  json::object fields;
  json::object labels;  ///< for `.Label "key"`
};

struct ListFormat {
  std::span<const Column> columns;     ///< every field there is, with its title
  std::string table;                   ///< the default table's template, such as "{{.ID}}\t{{.Names}}"
  std::string format;                  ///< the user's --format, or ""
  bool is_quiet = false;
  std::string_view quiet_field;        ///< what -q prints
};

/// The rows as asked; `has_colour`: titles stand out. Errors: invalid (the user's template).
Result<std::string> list_text(const ListFormat& format, const std::vector<Row>& rows, bool has_colour);
Status print_list(Output& out, const ListFormat& format, const std::vector<Row>& rows);
/// A table's text with its first line in bold.
std::string with_bold_head(std::string text);

/// Does the user's template mention `.FIELD`? False for templates that do not parse: print_list says why.
bool format_mentions(std::string_view format, std::string_view field);

/// Inspect's output: documents as indented JSON, one compact array for "json", or one rendering of the template per line.
Status print_documents(Output& out, const json::array& documents, std::string_view format);
/// One document (version, info): "json", or a template.
Status print_document(Output& out, const json::value& document, std::string_view format);

/// Four blanks per level, as docker prints inspect documents.
std::string indented_json(const json::value& value);

/// "abc…" when longer than `width` characters.
std::string ellipsis(std::string_view text, std::size_t width);
/// The first 12 digits of an id, without "sha256:".
std::string short_id(std::string_view id);
/// "187.7MB": most of docker's sizes have up to four digits; human_size() gives the lists' three.
std::string four_digit_size(std::uint64_t bytes);
/// Characters of a UTF-8 text.
std::size_t text_width(std::string_view text);

/// By the field "Name".
void sort_by_name(std::vector<Row>& rows);

}  // namespace caisson::cli
