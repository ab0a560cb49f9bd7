// A reader of XML as S3 writes it: elements and text. Whatever could lead elsewhere (DOCTYPE, entities of its own) is refused.
#include "registry/s3_answers.hpp"

#include <optional>

#include "base/strings.hpp"
#include "base/utf8.hpp"

namespace caisson::registry {

namespace {

constexpr std::size_t most_depth = 16;
constexpr std::size_t most_elements = 100'000;  // a page has a thousand objects of ten elements each

struct Element {
  std::string name;  ///< without its namespace's prefix
  std::string text;  ///< its own, entities replaced
  std::vector<Element> children;

  [[nodiscard]] const Element* child(std::string_view wanted) const {
    for (const auto& one : children)
      if (one.name == wanted) return &one;
    return nullptr;
  }
  [[nodiscard]] std::string text_of(std::string_view wanted) const {
    const auto* found = child(wanted);
    return found == nullptr ? std::string() : found->text;
  }
};

class Reader {
 public:
  explicit Reader(std::string_view text) : text_(text) {}

  Result<Element> document() {
    TRY_PLAIN(skip_prolog());
    auto root = TRY_PLAIN(element(0));
    TRY_PLAIN(skip_prolog());
    if (!text_.empty()) return bad("there is something behind its end");
    return root;
  }

 private:
  [[nodiscard]] static Error bad(std::string_view why) { return {ErrorKind::corrupt, concat("S3's answer: ", why)}; }

  [[nodiscard]] bool take(std::string_view word) {
    if (!text_.starts_with(word)) return false;
    text_.remove_prefix(word.size());
    return true;
  }
  void skip_blanks() {
    while (!text_.empty() && (text_[0] == ' ' || text_[0] == '\t' || text_[0] == '\r' || text_[0] == '\n')) text_.remove_prefix(1);
  }
  Status skip_behind(std::string_view end) {
    const auto at = text_.find(end);
    if (at == std::string_view::npos) return bad(concat("\"", end, "\" is missing"));
    text_.remove_prefix(at + end.size());
    return {};
  }
  /// Declarations and comments before the root, and comments behind it.
  Status skip_prolog() {
    for (;;) {
      skip_blanks();
      if (take("<?")) TRY_PLAIN(skip_behind("?>"));
      else if (take("<!--")) TRY_PLAIN(skip_behind("-->"));
      else return {};
    }
  }

  Result<std::string> name() {
    std::size_t length = 0;
    while (length < text_.size() && std::string_view(" \t\r\n/>=<\"'&").find(text_[length]) == std::string_view::npos) ++length;
    if (length == 0) return bad("an element has no name");
    std::string out(text_.substr(0, length));
    text_.remove_prefix(length);
    return out;
  }

  /// Attributes are namespaces, and say nothing to us.
  Status skip_attributes() {
    for (;;) {
      skip_blanks();
      if (text_.empty()) return bad("it ends within an element");
      if (text_[0] == '>' || text_[0] == '/') return {};
      TRY_PLAIN(name());
      skip_blanks();
      if (!take("=")) return bad("an attribute has no value");
      skip_blanks();
      if (text_.empty() || (text_[0] != '"' && text_[0] != '\'')) return bad("an attribute's value has no quotes");
      const std::string quote(1, text_[0]);
      text_.remove_prefix(1);
      TRY_PLAIN(skip_behind(quote));
    }
  }

  Result<std::string> entity() {
    constexpr std::size_t most_length = 10;
    const auto end = text_.substr(0, most_length).find(';');
    if (end == std::string_view::npos) return bad("an entity has no end");
    const auto word = text_.substr(0, end);
    text_.remove_prefix(end + 1);
    if (word == "lt") return std::string("<");
    if (word == "gt") return std::string(">");
    if (word == "amp") return std::string("&");
    if (word == "quot") return std::string("\"");
    if (word == "apos") return std::string("'");
    if (!word.starts_with('#')) return bad(concat("entity \"", word, "\" is not known"));
    const auto point = number(word.substr(1));
    const bool is_surrogate = point && *point >= 0xd800 && *point < 0xe000;
    if (!point || *point == 0 || *point > 0x10ffff || is_surrogate) return bad(concat("\"&", word, ";\" is no character"));
    std::string out;
    append_utf8(out, *point);
    return out;
  }
  static std::optional<std::uint32_t> number(std::string_view digits) {
    const bool is_hex = digits.starts_with('x');
    if (is_hex) digits.remove_prefix(1);
    if (digits.empty()) return std::nullopt;
    std::uint32_t out = 0;
    for (const char c : digits) {
      std::uint32_t value = 16;
      if (c >= '0' && c <= '9') value = static_cast<std::uint32_t>(c - '0');
      else if (is_hex && c >= 'a' && c <= 'f') value = static_cast<std::uint32_t>(c - 'a' + 10);
      else if (is_hex && c >= 'A' && c <= 'F') value = static_cast<std::uint32_t>(c - 'A' + 10);
      if (value >= (is_hex ? 16U : 10U)) return std::nullopt;
      out = out * (is_hex ? 16 : 10) + value;  // at most eight digits: no overflow that would not be beyond the last character
      if (out > 0x10ffff) return std::nullopt;
    }
    return out;
  }

  Result<Element> element(std::size_t depth) {
    if (depth == most_depth) return bad("elements are nested too deep");
    if (++count_ > most_elements) return bad("it has too many elements");
    if (!take("<") || text_.starts_with("!") || text_.starts_with("/")) return bad("an element was expected");
    Element out;
    const auto full_name = TRY_PLAIN(name());
    const auto colon = full_name.find(':');
    out.name = colon == std::string::npos ? full_name : full_name.substr(colon + 1);
    TRY_PLAIN(skip_attributes());
    if (take("/>")) return out;
    if (!take(">")) return bad("an element's tag has no end");
    for (;;) {
      if (text_.empty()) return bad(concat("element ", out.name, " has no end"));
      if (take("</")) {
        if (TRY_PLAIN(name()) != full_name) return bad(concat("element ", out.name, " is closed by another's name"));
        skip_blanks();
        if (!take(">")) return bad(concat("the end of element ", out.name, " has no end"));
        return out;
      }
      if (take("<!--")) TRY_PLAIN(skip_behind("-->"));
      else if (take("<![CDATA[")) TRY_PLAIN(take_cdata(out.text));
      else if (text_[0] == '<') out.children.push_back(TRY_PLAIN(element(depth + 1)));
      else if (take("&")) out.text += TRY_PLAIN(entity());
      else take_text(out.text);
    }
  }
  Status take_cdata(std::string& out) {
    const auto at = text_.find("]]>");
    if (at == std::string_view::npos) return bad("CDATA has no end");
    out += text_.substr(0, at);
    text_.remove_prefix(at + 3);
    return {};
  }
  void take_text(std::string& out) {
    const auto at = text_.find_first_of("<&");
    const auto piece = text_.substr(0, at);
    out += piece;
    text_.remove_prefix(piece.size());
  }

  std::string_view text_;
  std::size_t count_ = 0;
};

Result<Element> read(std::string_view text, std::string_view root) {
  auto document = TRY_PLAIN(Reader(text).document());
  if (document.name != root) return Error(ErrorKind::corrupt, concat("S3's answer is a document \"", document.name, "\", not ", root));
  return document;
}

Result<std::string> needed(const Element& element, std::string_view name) {
  auto text = element.text_of(name);
  if (text.empty()) return Error(ErrorKind::corrupt, concat("S3's answer: ", element.name, " has no ", name));
  return text;
}

/// ETags and times are not needed to know what is there: an odd one counts as the beginning of time.
TimestampNs time_of(const std::string& text) { return parse_rfc3339(text).value_or(0); }

}  // namespace

Result<S3Page> parse_s3_page(std::string_view text) {
  const auto document = TRY_PLAIN(read(text, "ListBucketResult"));
  S3Page page;
  for (const auto& element : document.children) {
    if (element.name != "Contents") continue;
    S3Object object;
    object.key = TRY_PLAIN(needed(element, "Key"));
    object.size_bytes = TRY(parse_integer<std::uint64_t>(TRY_PLAIN(needed(element, "Size"))), concat("S3's answer: size of ", object.key));
    object.written = time_of(element.text_of("LastModified"));
    page.objects.push_back(std::move(object));
  }
  if (document.text_of("IsTruncated") == "true") page.next = TRY_PLAIN(needed(document, "NextContinuationToken"));
  return page;
}

Result<S3Uploads> parse_s3_uploads(std::string_view text) {
  const auto document = TRY_PLAIN(read(text, "ListMultipartUploadsResult"));
  S3Uploads out;
  for (const auto& element : document.children) {
    if (element.name != "Upload") continue;
    S3Upload upload;
    upload.key = TRY_PLAIN(needed(element, "Key"));
    upload.id = TRY_PLAIN(needed(element, "UploadId"));
    upload.begun = time_of(element.text_of("Initiated"));
    out.uploads.push_back(std::move(upload));
  }
  if (document.text_of("IsTruncated") == "true") {
    out.next_key = TRY_PLAIN(needed(document, "NextKeyMarker"));
    out.next_id = document.text_of("NextUploadIdMarker");
  }
  return out;
}

Result<std::string> parse_s3_upload_id(std::string_view text) { return needed(TRY_PLAIN(read(text, "InitiateMultipartUploadResult")), "UploadId"); }

S3Fault parse_s3_fault(std::string_view text) {
  const auto document = read(text, "Error");
  if (!document.ok()) return {};
  return {document->text_of("Code"), document->text_of("Message")};
}

std::string write_s3_parts(const std::vector<std::string>& etags) {
  std::string out = "<CompleteMultipartUpload>";
  std::size_t number = 0;
  for (const auto& etag : etags) {
    std::string escaped;
    for (const char c : etag) escaped += c == '"' ? std::string("&quot;") : c == '&' ? std::string("&amp;") : c == '<' ? std::string("&lt;") : std::string(1, c);
    out += concat("<Part><PartNumber>", ++number, "</PartNumber><ETag>", escaped, "</ETag></Part>");
  }
  return out + "</CompleteMultipartUpload>";
}

}  // namespace caisson::registry
