package store

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"syscall"
)

// A RefusedError is a value that is there and not to be believed: somebody else
// could have written it, it is of another boot, or it makes no sense.
type RefusedError struct {
	Key string
	Why string
}

func (e *RefusedError) Error() string {
	return fmt.Sprintf("cannot use the stored %s: %s", e.Key, e.Why)
}

// read takes a file only if nobody but us can have written it: a regular file
// of ours, with one name, closed to all others.
func (s *Store) read(key string) ([]byte, error) {
	defer s.turn()()
	f, err := s.state.Open(key+suffix, os.O_RDONLY, 0)
	switch {
	case errors.Is(err, fs.ErrPermission):
		return nil, &RefusedError{Key: key, Why: err.Error()}
	case err != nil:
		return nil, err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if why := suspect(st); why != "" {
		return nil, &RefusedError{Key: key, Why: why}
	}
	text, err := io.ReadAll(io.LimitReader(f, MaxSize))
	if err != nil {
		return nil, fmt.Errorf("cannot read the stored %s: %w", key, err)
	}
	return text, nil
}

func suspect(st fs.FileInfo) string {
	switch uid := st.Sys().(*syscall.Stat_t).Uid; {
	case uid != uint32(os.Geteuid()):
		return fmt.Sprintf("its file belongs to uid %d", uid)
	case st.Mode()&0o077 != 0:
		return fmt.Sprintf("its file is open to others (mode %04o)", st.Mode().Perm())
	case st.Size() > MaxSize:
		return fmt.Sprintf("its file has %d bytes, more than %d", st.Size(), MaxSize)
	}
	return ""
}

// maxDepth is more than any value of ours has, and little enough to walk.
const maxDepth = 64

// decode is json.Unmarshal for text that may be hostile.
func decode(text []byte, v any) error {
	if depth(text) > maxDepth {
		return fmt.Errorf("its JSON is nested deeper than %d", maxDepth)
	}
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		return fmt.Errorf("its JSON is wrong: %w", err)
	}
	if _, err := d.Token(); err != io.EOF {
		return errors.New("its JSON goes on after the end")
	}
	return nil
}

// depth counts brackets outside of strings; what is no JSON is for the decoder
// to refuse.
func depth(text []byte) (deepest int) {
	open, quoted := 0, false
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case quoted && c == '\\':
			i++
		case c == '"':
			quoted = !quoted
		case quoted:
		case c == '{' || c == '[':
			open++
			deepest = max(deepest, open)
		case c == '}' || c == ']':
			open--
		}
	}
	return deepest
}

// bootID names this boot of the machine; empty where nobody says.
func bootID() string {
	id, _ := os.ReadFile("/proc/sys/kernel/random/boot_id")
	return strings.TrimSpace(string(id))
}
