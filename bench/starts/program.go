package starts

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"fmt"
	"os"
	"runtime"
)

// exits is the machine code of exit(0), by architecture.
var exits = map[string]struct {
	machine elf.Machine
	code    []byte
}{
	"amd64": {elf.EM_X86_64, []byte{
		0x31, 0xff, // xor edi, edi
		0xb8, 60, 0, 0, 0, // mov eax, 60
		0x0f, 0x05, // syscall
	}},
	"arm64": {elf.EM_AARCH64, []byte{
		0x00, 0x00, 0x80, 0xd2, // mov x0, 0
		0xa8, 0x0b, 0x80, 0xd2, // mov x8, 93
		0x01, 0x00, 0x00, 0xd4, // svc 0
	}},
}

// least is the least program that there can be: it only exits. One that does more
// costs that much more, however it is started.
func least() ([]byte, error) { return leastFor(runtime.GOARCH) }

func leastFor(arch string) ([]byte, error) {
	of, ok := exits[arch]
	if !ok {
		return nil, fmt.Errorf("there is no program for %s here: name one by -program", arch)
	}
	return executable(of.machine, of.code)
}

// executable is an ELF file of one segment, which begins with its headers (elf(5)).
func executable(machine elf.Machine, code []byte) ([]byte, error) {
	const header, segment, at = 64, 56, 0x400000
	size := uint64(header + segment + len(code))
	h := elf.Header64{
		Type: uint16(elf.ET_EXEC), Machine: uint16(machine), Version: uint32(elf.EV_CURRENT),
		Entry: at + header + segment, Phoff: header, Ehsize: header, Phentsize: segment, Phnum: 1,
	}
	copy(h.Ident[:], elf.ELFMAG)
	h.Ident[elf.EI_CLASS], h.Ident[elf.EI_DATA], h.Ident[elf.EI_VERSION] = byte(elf.ELFCLASS64), byte(elf.ELFDATA2LSB), byte(elf.EV_CURRENT)
	var b bytes.Buffer
	for _, part := range []any{h, elf.Prog64{
		Type: uint32(elf.PT_LOAD), Flags: uint32(elf.PF_R | elf.PF_X), Vaddr: at, Paddr: at, Filesz: size, Memsz: size, Align: 0x10000,
	}, code} {
		if err := binary.Write(&b, binary.LittleEndian, part); err != nil {
			return nil, err
		}
	}
	return b.Bytes(), nil
}

// program is the text of one that somebody has named. It is started from a file of
// ours, by which what is left of it is found; so a script, which runs as its
// interpreter, is none.
func program(path string) ([]byte, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	if !bytes.HasPrefix(text, []byte(elf.ELFMAG)) {
		return nil, fmt.Errorf("%s is not an ELF file", path)
	}
	return text, nil
}
