package stage

// ParseFile reads the text of an environment file, as systemd.exec(5) describes
// it under EnvironmentFile=: a line KEY=VALUE each; lines that are empty or begin
// with # or ; are none; blanks around a value do not count; a backslash at the
// end of a line goes on in the next. In single quotes all is taken as it is, in
// double quotes and outside a backslash takes the next character as it is. Unlike
// systemd it accepts no line that is something else: badLine is the number of the
// first, or 0. Callers must show the number alone: a file that was named by
// mistake may hold secrets.
func ParseFile(text []byte) (pairs []string, badLine int) {
	p := fileParser{text: text, line: 1}
	for p.skipBlank(); len(p.text) > 0; p.skipBlank() {
		begin := p.line
		pair, ok := p.pair()
		if !ok {
			return nil, begin
		}
		pairs = append(pairs, pair)
	}
	return pairs, 0
}

type fileParser struct {
	text []byte // what is left
	line int
}

// next takes one byte; 0 at the end, and for a NUL, which no environment holds.
func (p *fileParser) next() (c byte) {
	if len(p.text) == 0 {
		return 0
	}
	c, p.text = p.text[0], p.text[1:]
	if c == '\n' {
		p.line++
	}
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
		case blank(c) || c == '\n':
			p.next()
		case c == '#' || c == ';':
			for len(p.text) > 0 && p.next() != '\n' {
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
	for blank(p.peek()) {
		p.next()
	}
	kept := 0 // blanks after it are dropped, unless they were quoted
	for len(p.text) > 0 {
		switch c := p.next(); c {
		case '\n':
			return value[:kept], true
		case 0:
			return nil, false
		case '\'', '"':
			if value, ok = p.quoted(value, c); !ok {
				return nil, false
			}
			kept = len(value)
		case '\\':
			if value, ok = p.escaped(value); !ok {
				return nil, false
			}
			kept = len(value)
		default:
			if value = append(value, c); !blank(c) {
				kept = len(value)
			}
		}
	}
	return value[:kept], true
}

func (p *fileParser) quoted(value []byte, quote byte) ([]byte, bool) {
	for len(p.text) > 0 {
		switch c := p.next(); {
		case c == quote:
			return value, true
		case c == 0:
			return nil, false
		case c == '\\' && quote == '"':
			var ok bool
			if value, ok = p.escaped(value); !ok {
				return nil, false
			}
		default:
			value = append(value, c)
		}
	}
	return nil, false // not closed
}

// escaped takes the character after a backslash; an end of line is dropped.
func (p *fileParser) escaped(value []byte) ([]byte, bool) {
	switch c := p.next(); c {
	case 0:
		return nil, false
	case '\n':
		return value, true
	default:
		return append(value, c), true
	}
}

func blank(c byte) bool { return c == ' ' || c == '\t' || c == '\r' }

func nameByte(c byte, first bool) bool {
	switch {
	case c == '_', 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z':
		return true
	}
	return !first && '0' <= c && c <= '9'
}
