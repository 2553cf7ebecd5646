package process

// maxFile is the size of an environment file that is read, in bytes.
const maxFile = 1 << 20

// parseFile reads the text of an environment file as systemd does, see
// EnvironmentFile= in systemd.exec(5) and parse_env_file_internal in its source: a
// line KEY=VALUE each; lines that are empty or begin with # or ; are none; blanks
// around a value do not count.
//
// A quote is one where a value begins, or after another quoted part; behind the
// first character that is not quoted it is a character like others. In single
// quotes everything stands for itself. In double quotes a backslash takes away the
// meaning of ", \, $ and `, joins the next line, and otherwise stands for itself.
// Outside of quotes it takes the next character as it is, or joins the next line.
//
// systemd passes over a line that is something else, and lets a quote that is never
// closed swallow the rest of the file. Here both are errors: badLine is the number
// of the first such line, or 0. Callers must show the number alone: a file that was
// named by mistake may hold secrets.
func parseFile(text []byte) (pairs []string, badLine int) {
	p := fileParser{text: text, line: 1}
	for p.skipBlank(); len(p.text) > 0; p.skipBlank() {
		begin := p.line
		pair, ok := p.pair()
		if !ok || p.nul {
			return nil, begin
		}
		pairs = append(pairs, pair)
	}
	return pairs, 0
}

type fileParser struct {
	text []byte // what is left
	line int
	nul  bool // there was a NUL, which no environment holds
}

// next takes one byte; 0 at the end.
func (p *fileParser) next() (c byte) {
	if len(p.text) == 0 {
		return 0
	}
	c, p.text = p.text[0], p.text[1:]
	if c == '\n' {
		p.line++
	}
	p.nul = p.nul || c == 0
	return c
}

func (p *fileParser) peek() byte {
	if len(p.text) == 0 {
		return 0
	}
	return p.text[0]
}

// skipBlank skips empty lines and comments.
func (p *fileParser) skipBlank() {
	for len(p.text) > 0 {
		switch c := p.peek(); {
		case blank(c) || newline(c):
			p.next()
		case c == '#' || c == ';':
			for len(p.text) > 0 && !newline(p.next()) {
			}
		default:
			return
		}
	}
}

func (p *fileParser) pair() (pair string, ok bool) {
	var key []byte
	for nameByte(p.peek(), len(key) == 0) {
		key = append(key, p.next())
	}
	for blank(p.peek()) {
		p.next()
	}
	if len(key) == 0 || p.next() != '=' {
		return "", false
	}
	value, ok := p.value()
	return string(key) + "=" + string(value), ok
}

// value reads up to the end of the line, or of the last line that continues it.
func (p *fileParser) value() (value []byte, ok bool) {
	for {
		switch c := p.next(); {
		case c == 0, newline(c):
			return value, true
		case blank(c):
		case c == '\'', c == '"':
			if value, ok = p.quoted(value, c); !ok {
				return nil, false
			}
		default:
			return p.unquoted(value, c), true
		}
	}
}

// unquoted reads the rest of a value, which begins with c. Blanks at its end are
// dropped, unless a backslash is before or after them.
func (p *fileParser) unquoted(value []byte, c byte) []byte {
	kept := len(value)
	for ; c != 0 && !newline(c); c = p.next() {
		if c != '\\' {
			value = append(value, c)
		} else if next := p.next(); next != 0 && !newline(next) {
			value = append(value, next)
		}
		if c == '\\' || !blank(c) {
			kept = len(value)
		}
	}
	return value[:kept]
}

// quoted reads up to the closing quote, which must be there.
func (p *fileParser) quoted(value []byte, quote byte) ([]byte, bool) {
	for len(p.text) > 0 {
		switch c := p.next(); {
		case c == quote:
			return value, true
		case c == '\\' && quote == '"':
			value = p.escaped(value)
		default:
			value = append(value, c)
		}
	}
	return nil, false
}

// escaped takes what follows a backslash in double quotes.
func (p *fileParser) escaped(value []byte) []byte {
	switch c := p.next(); c {
	case '\n':
		return value
	case '"', '\\', '$', '`':
		return append(value, c)
	default:
		return append(value, '\\', c)
	}
}

func blank(c byte) bool { return c == ' ' || c == '\t' }

func newline(c byte) bool { return c == '\n' || c == '\r' }

func nameByte(c byte, first bool) bool {
	switch {
	case c == '_', 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z':
		return true
	}
	return !first && '0' <= c && c <= '9'
}
