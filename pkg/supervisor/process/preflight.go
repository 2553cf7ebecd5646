package process

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"errors"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/supervisord-go/supervisord/pkg/supervisor/unit"
)

// Preflight finds the file that a program is to be executed from, and looks
// whether it can be: that it is there, regular, executable, and for this machine.
// The error is a *StartError. A file that passes may still fail: only execve
// knows.
func Preflight(p *unit.Program) (path string, err error) {
	path, file, err := find(p)
	if err != nil {
		return path, err
	}
	defer file.Close()
	_, err = inspect(file, path)
	return path, err
}

// find opens the program's file; a bare name is looked for in Search, whose
// directories are absolute, in their order.
func find(p *unit.Program) (path string, file *Executable, err error) {
	if strings.Contains(p.Path, "/") {
		file, err = openProgram(p.Path)
		return p.Path, file, err
	}
	for _, dir := range p.Search {
		path := filepath.Join(dir, p.Path)
		if !filepath.IsAbs(path) || p.Path == "" {
			continue
		}
		file, err := openProgram(path)
		if err == nil && file.was.Mode&0o111 != 0 && file.was.Mode&unix.S_IFMT == unix.S_IFREG {
			return path, file, nil
		}
		if err == nil {
			file.Close()
		}
	}
	return p.Path, nil, stepExec.failed(syscall.ENOENT, p.Path, "it is in none of "+strings.Join(p.Search, ", "))
}

func openProgram(path string) (*Executable, error) {
	file, err := openFile(path)
	if err != nil {
		return nil, stepExec.failed(errnoOf(err), path, "")
	}
	return file, nil
}

// A kind says how the kernel executes a file.
type kind int

const (
	unreadable kind = iota // not by us: all but a program of its own would fail
	program                // ELF
	script                 // "#!"
	foreign                // by binfmt_misc(5), perhaps
)

// maxInterpreters is how deep the kernel follows "#!".
const maxInterpreters = 5

func inspectPath(path string) error {
	file, err := openProgram(path)
	if err != nil {
		return err
	}
	defer file.Close()
	_, err = inspect(file, path)
	return err
}

func inspect(file *Executable, path string) (kind, error) {
	return inspectDeep(file, path, maxInterpreters)
}

func inspectDeep(file *Executable, path string, depth int) (kind, error) {
	switch {
	case file.was.Mode&unix.S_IFMT != unix.S_IFREG:
		return 0, stepExec.failed(syscall.EACCES, path, "it is not a regular file")
	case file.was.Mode&0o111 == 0:
		return 0, stepExec.failed(syscall.EACCES, path, "chmod +x "+path)
	case depth == 0:
		return 0, stepExec.failed(syscall.ELOOP, path, "too many interpreters that are scripts themselves")
	}
	head, err := file.head()
	switch {
	case err != nil:
		return unreadable, nil
	case bytes.HasPrefix(head, []byte("#!")):
		return script, checkInterpreter(path, head, depth)
	case bytes.HasPrefix(head, []byte(elf.ELFMAG)):
		return program, checkMachine(path, head)
	case foreignFormats():
		return foreign, nil
	}
	hint := "it is neither a program nor a script with #!"
	if len(head) == 0 {
		hint = "the file is empty"
	}
	return foreign, stepExec.failed(syscall.ENOEXEC, path, hint)
}

// head reads the beginning of a regular file, as much as the kernel looks at.
func (e *Executable) head() (head []byte, err error) {
	var f *os.File
	err = e.with(func(fd int) (err error) {
		f, err = os.OpenFile("/proc/self/fd/"+strconv.Itoa(fd), os.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY, 0)
		return err
	})
	if err != nil {
		return nil, err
	}
	defer f.Close()
	head = make([]byte, 256)
	n, err := io.ReadFull(f, head)
	if err == io.EOF || err == io.ErrUnexpectedEOF {
		err = nil
	}
	return head[:n], err
}

// checkInterpreter looks at the file that a script names in its first line.
func checkInterpreter(path string, head []byte, depth int) error {
	line, _, whole := bytes.Cut(head[2:], []byte("\n"))
	fields := strings.FieldsFunc(string(line), func(r rune) bool { return r == ' ' || r == '\t' }) // as the kernel does
	if len(fields) == 0 {
		return stepExec.failed(syscall.ENOEXEC, path, "its #! line names no interpreter")
	}
	if !whole && len(fields) == 1 { // cut short, who knows where
		return nil
	}
	interpreter := fields[0]
	if strings.HasSuffix(interpreter, "\r") {
		return stepExec.failed(syscall.ENOENT, path, "its lines end in CRLF, as those of Windows do: sed -i 's/\\r$//' "+path)
	}
	if interpreter == path {
		return stepExec.failed(syscall.ELOOP, path, "its #! line names the file itself")
	}
	if !filepath.IsAbs(interpreter) {
		return nil // relative to the working directory, which is not ours
	}
	file, err := openProgram(interpreter)
	if err == nil {
		defer file.Close()
		_, err = inspectDeep(file, interpreter, depth-1)
	}
	var e *StartError
	if errors.As(err, &e) {
		return stepExec.failed(e.Errno, path, strings.TrimSuffix("its interpreter is "+interpreter+": "+e.Cause()+"; "+e.hint, "; "))
	}
	return nil
}

// machines are those whose programs a machine runs, with the older kin that a
// kernel may be built to run as well.
var machines = map[string][]elf.Machine{
	"amd64":   {elf.EM_X86_64, elf.EM_386},
	"arm64":   {elf.EM_AARCH64, elf.EM_ARM},
	"riscv64": {elf.EM_RISCV},
}

// checkMachine reads the fields of an ELF header that say what the file is for.
// By hand, and no further: the file may be hostile.
func checkMachine(path string, head []byte) error {
	const headerSize = 52 // of 32 bits; 64 in 64
	if len(head) < headerSize {
		return stepExec.failed(syscall.ENOEXEC, path, "the file is cut short: is it still being written?")
	}
	var order binary.ByteOrder = binary.LittleEndian
	if elf.Data(head[elf.EI_DATA]) == elf.ELFDATA2MSB {
		order = binary.BigEndian
	}
	is, this := elf.Machine(order.Uint16(head[18:])), machines[runtime.GOARCH]
	if typ := elf.Type(order.Uint16(head[16:])); typ != elf.ET_EXEC && typ != elf.ET_DYN {
		return stepExec.failed(syscall.ENOEXEC, path, "it is an ELF file, but no program ("+typ.String()+")")
	}
	if this == nil || foreignFormats() {
		return nil
	}
	for _, m := range this {
		if is == m {
			return nil
		}
	}
	return stepExec.failed(syscall.ENOEXEC, path, "it is for another machine ("+is.String()+"); this one is "+runtime.GOARCH)
}

// foreignFormats says whether the kernel was told of formats besides its own
// (binfmt_misc): then it alone knows what it can execute.
func foreignFormats() bool {
	const dir = "/proc/sys/fs/binfmt_misc"
	names, _ := os.ReadDir(dir)
	for _, n := range names {
		if n.Name() != "register" && n.Name() != "status" {
			return true
		}
	}
	return false
}
