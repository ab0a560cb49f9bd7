// Tables and formats.
#include "cli/listing.hpp"

#include <algorithm>
#include <array>
#include <cstdio>
#include <map>

#include "base/strings.hpp"

namespace caisson::cli {

namespace {

constexpr std::size_t padding = 3;

json::object titles(std::span<const Column> columns) {
  json::object out;
  for (const auto& column : columns) out[column.field] = column.title;
  return out;
}

// Lines of tab-separated cells to an aligned table.
std::string align_text(std::string_view text) {
  if (text.ends_with('\n')) text.remove_suffix(1);
  std::vector<std::vector<std::string>> rows;
  for (auto line : split(text, '\n')) {
    std::vector<std::string> cells;
    for (auto cell : split(line, '\t')) cells.emplace_back(cell);
    rows.push_back(std::move(cells));
  }
  return align(rows);
}

// Go escapes these three in list output (its encoder's HTML default), but not in {{json}}.
std::string escape_html_json(std::string_view text) {
  std::string out = replace_all(text, "<", "\\u003c");
  out = replace_all(out, ">", "\\u003e");
  return replace_all(out, "&", "\\u0026");
}

// docker's list rows are Go maps, which are encoded in key order.
json::value by_key(const json::object& fields) {
  std::map<std::string_view, const json::value*> sorted;
  for (const auto& field : fields) sorted[field.key()] = &field.value();
  json::object out;
  for (const auto& [key, value] : sorted) out[key] = *value;
  return out;
}

void indent(std::string& out, const json::value& value, std::size_t depth) {
  std::string pad((depth + 1) * 4, ' ');
  std::string end(depth * 4, ' ');
  if (const auto* object = value.if_object()) {
    if (object->empty()) {
      out += "{}";
      return;
    }
    out += "{\n";
    bool first = true;
    for (const auto& member : *object) {
      if (!first) out += ",\n";
      first = false;
      out += concat(pad, to_text(json::string(member.key())), ": ");
      indent(out, member.value(), depth + 1);
    }
    out += concat("\n", end, "}");
  } else if (const auto* array = value.if_array()) {
    if (array->empty()) {
      out += "[]";
      return;
    }
    out += "[\n";
    bool first = true;
    for (const auto& item : *array) {
      if (!first) out += ",\n";
      first = false;
      out += pad;
      indent(out, item, depth + 1);
    }
    out += concat("\n", end, "]");
  } else {
    out += to_text(value);
  }
}

}  // namespace

std::size_t text_width(std::string_view text) {
  std::size_t width = 0;
  for (char c : text) width += (static_cast<unsigned char>(c) & 0xC0) != 0x80 ? 1 : 0;
  return width;
}

std::string ellipsis(std::string_view text, std::size_t width) {
  if (text_width(text) <= width || width == 0) return std::string(text);
  std::size_t seen = 0;
  std::size_t at = 0;
  while (at < text.size()) {
    if ((static_cast<unsigned char>(text[at]) & 0xC0) != 0x80 && ++seen == width) break;
    ++at;
  }
  return concat(text.substr(0, at), "…");
}

std::string short_id(std::string_view id) {
  auto halves = split_once(id, ':');
  return std::string((halves.found ? halves.after : id).substr(0, 12));
}

std::string four_digit_size(std::uint64_t bytes) {
  static constexpr std::array units = {"B", "kB", "MB", "GB", "TB", "PB"};
  auto value = static_cast<double>(bytes);
  std::size_t unit = 0;
  for (; value >= 1000 && unit + 1 < units.size(); ++unit) value /= 1000;
  std::array<char, 32> buffer{};
  std::snprintf(buffer.data(), buffer.size(), "%.4g%s", value, units[unit]);
  return buffer.data();
}

std::string align(const std::vector<std::vector<std::string>>& rows, std::size_t least_width) {
  std::vector<std::size_t> widths;
  for (const auto& row : rows)
    for (std::size_t i = 0; i + 1 < row.size(); ++i) {  // the last cell of a row is not a column
      if (widths.size() <= i) widths.push_back(least_width);
      widths[i] = std::max(widths[i], text_width(row[i]) + padding);
    }
  std::string out;
  for (const auto& row : rows) {
    for (std::size_t i = 0; i < row.size(); ++i) {
      out += row[i];
      if (i + 1 < row.size()) out.append(widths[i] - text_width(row[i]), ' ');
    }
    out += '\n';
  }
  return out;
}

std::string with_bold_head(std::string text) {
  auto end = text.find('\n');
  if (end == std::string::npos) return text;
  return concat("\x1b[1m", std::string_view(text).substr(0, end), "\x1b[0m", std::string_view(text).substr(end));
}

Status print_list(Output& out, const ListFormat& list, const std::vector<Row>& rows) {
  out.write(TRY_PLAIN(list_text(list, rows, out.has_colour())));
  return {};
}

Result<std::string> list_text(const ListFormat& list, const std::vector<Row>& rows, bool has_colour) {
  std::string format = list.format;
  if (list.is_quiet) {
    if (format.empty() || format == "table") format = concat("{{.", list.quiet_field, "}}");
  } else if (format.empty()) {
    format = "table";
  }
  if (format == "json") {
    std::string lines;
    for (const auto& row : rows) lines += escape_html_json(to_text(by_key(row.fields))) + "\n";
    return lines;
  }
  bool is_table = format == "table" || format.starts_with("table ") || format.starts_with("table\t");
  std::string text = unescape_format(is_table ? format.substr(5) : format);
  if (is_table) text = trim(text).empty() ? list.table : std::string(trim(text));
  Template parsed = TRY_PLAIN(Template::parse(text));
  std::string table;
  if (is_table) {
    json::value head(titles(list.columns));
    TemplateData data{&head, nullptr, true};
    json::object none;
    data.labels = &none;
    table += TRY_PLAIN(parsed.render(data)) + "\n";
  }
  if (rows.empty()) {  // a wrong field must be said for an empty list too
    json::value probe(titles(list.columns));
    json::object none;
    TRY_PLAIN(parsed.render(TemplateData{&probe, &none, true}));
  }
  for (const auto& row : rows) {
    json::value root(row.fields);
    table += TRY_PLAIN(parsed.render(TemplateData{&root, &row.labels, false})) + "\n";
  }
  if (!is_table) return table;
  std::string aligned = align_text(table);
  return has_colour ? with_bold_head(std::move(aligned)) : aligned;
}

bool format_mentions(std::string_view format, std::string_view field) {
  auto parsed = Template::parse(unescape_format(format));
  return parsed.ok() && parsed->uses_field(field);
}

std::string indented_json(const json::value& value) {
  std::string out;
  indent(out, value, 0);
  return out;
}

Status print_documents(Output& out, const json::array& documents, std::string_view format) {
  if (format.empty()) {
    out.line(indented_json(documents));
    return {};
  }
  if (format == "json") {
    out.line(to_text(documents));
    return {};
  }
  for (const auto& document : documents) TRY_PLAIN(print_document(out, document, format));
  return {};
}

Status print_document(Output& out, const json::value& document, std::string_view format) {
  if (format == "json") {
    out.line(to_text(document));
    return {};
  }
  Template parsed = TRY_PLAIN(Template::parse(format));
  out.line(TRY_PLAIN(parsed.render(TemplateData{&document, nullptr, false})));
  return {};
}

void sort_by_name(std::vector<Row>& rows) {
  std::sort(rows.begin(), rows.end(), [](const Row& a, const Row& b) { return a.fields.at("Name").get_string() < b.fields.at("Name").get_string(); });
}

}  // namespace caisson::cli
