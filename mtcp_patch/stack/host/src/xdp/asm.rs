//! A small assembler of BPF instructions: labels, forward jumps, the dozen operations that the
//! steering program needs.
//!
//! Owned by `steer`, which is its only caller. It never talks to the kernel, so that programs can
//! be tested without privileges.

use std::fmt;

/// One instruction as the kernel reads it (`struct bpf_insn`).
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Insn {
    /// Class, operation and operand kind.
    pub code: u8,
    /// Destination and source register, a nibble each.
    pub regs: u8,
    /// Offset of a memory access or of a jump.
    pub off: i16,
    /// Immediate operand.
    pub imm: i32,
}

/// A register: r0 result, r1–r5 arguments, r6–r9 kept over calls, r10 frame pointer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reg(u8);

/// Result of calls and of the program.
pub const R0: Reg = Reg(0);
/// First argument.
pub const R1: Reg = Reg(1);
/// Second argument.
pub const R2: Reg = Reg(2);
/// Third argument.
pub const R3: Reg = Reg(3);
/// Fourth argument.
pub const R4: Reg = Reg(4);
/// Fifth argument.
pub const R5: Reg = Reg(5);
/// Kept over calls.
pub const R6: Reg = Reg(6);
/// Kept over calls.
pub const R7: Reg = Reg(7);
/// Kept over calls.
pub const R8: Reg = Reg(8);
/// Kept over calls.
pub const R9: Reg = Reg(9);
/// Frame pointer, read only.
pub const FP: Reg = Reg(10);

/// Width of a memory access.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Size {
    /// One byte.
    Byte,
    /// Two bytes.
    Half,
    /// Four bytes.
    Word,
    /// Eight bytes.
    Double,
}

impl Size {
    const fn bits(self) -> u8 {
        match self {
            Self::Word => 0x00,
            Self::Half => 0x08,
            Self::Byte => 0x10,
            Self::Double => 0x18,
        }
    }
}

/// A 64-bit operation of two operands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Alu {
    /// `dst += operand`
    Add,
    /// `dst &= operand`
    And,
    /// `dst <<= operand`
    Lsh,
    /// `dst >>= operand`
    Rsh,
    /// `dst = operand`
    Mov,
}

impl Alu {
    const fn bits(self) -> u8 {
        match self {
            Self::Add => 0x00,
            Self::And => 0x50,
            Self::Lsh => 0x60,
            Self::Rsh => 0x70,
            Self::Mov => 0xb0,
        }
    }
}

/// Condition of a jump; comparisons are unsigned and of 64 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cond {
    /// Equal.
    Eq,
    /// Not equal.
    Ne,
    /// Greater than.
    Gt,
    /// Less than.
    Lt,
}

impl Cond {
    const fn bits(self) -> u8 {
        match self {
            Self::Eq => 0x10,
            Self::Gt => 0x20,
            Self::Ne => 0x50,
            Self::Lt => 0xa0,
        }
    }
}

/// The second operand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operand {
    /// An immediate, sign-extended.
    Imm(i32),
    /// A register.
    Reg(Reg),
}

impl From<i32> for Operand {
    fn from(value: i32) -> Self {
        Self::Imm(value)
    }
}

impl From<Reg> for Operand {
    fn from(reg: Reg) -> Self {
        Self::Reg(reg)
    }
}

/// A place in the program that jumps may name before it exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Label(usize);

/// Why a program could not be finished. Both are our own bugs; the tests would show them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AsmError {
    /// A jump names a label that was never placed.
    UnplacedLabel,
    /// A jump is longer than 32,767 instructions, or goes backwards (the verifier would have to
    /// prove that such a loop ends).
    BadJump,
}

impl fmt::Display for AsmError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::UnplacedLabel => "a jump names a label that was never placed",
            Self::BadJump => "a jump is too long or goes backwards",
        })
    }
}

impl std::error::Error for AsmError {}

const CLASS_LD: u8 = 0x00;
const CLASS_LDX: u8 = 0x01;
const CLASS_ST: u8 = 0x02;
const CLASS_STX: u8 = 0x03;
const CLASS_JMP: u8 = 0x05;
const CLASS_ALU64: u8 = 0x07;
const MODE_MEM: u8 = 0x60;
const SOURCE_REG: u8 = 0x08;
const JMP_CALL: u8 = 0x80;
const JMP_EXIT: u8 = 0x90;
const PSEUDO_MAP_FD: Reg = Reg(1);

/// A program under construction.
#[derive(Default)]
pub struct Assembler {
    insns: Vec<Insn>,
    jumps: Vec<(usize, Label)>,
    labels: Vec<Option<usize>>,
}

impl Assembler {
    /// An empty program.
    pub fn new() -> Self {
        Self::default()
    }

    fn emit(&mut self, code: u8, dst: Reg, src: Reg, off: i16, imm: i32) {
        // `dst_reg` and `src_reg` are C bit-fields: their order follows the byte order.
        let regs =
            if cfg!(target_endian = "little") { dst.0 | src.0 << 4 } else { dst.0 << 4 | src.0 };
        self.insns.push(Insn { code, regs, off, imm });
    }

    /// A new label, not placed yet.
    pub fn label(&mut self) -> Label {
        self.labels.push(None);
        Label(self.labels.len() - 1)
    }

    /// Places `label` before the next instruction.
    pub fn place(&mut self, label: Label) {
        if let Some(slot) = self.labels.get_mut(label.0) {
            *slot = Some(self.insns.len());
        }
    }

    /// `dst = dst op operand`.
    pub fn alu(&mut self, op: Alu, dst: Reg, operand: impl Into<Operand>) {
        match operand.into() {
            Operand::Imm(imm) => self.emit(CLASS_ALU64 | op.bits(), dst, R0, 0, imm),
            Operand::Reg(src) => {
                self.emit(CLASS_ALU64 | op.bits() | SOURCE_REG, dst, src, 0, 0);
            }
        }
    }

    /// `dst = operand`.
    pub fn mov(&mut self, dst: Reg, operand: impl Into<Operand>) {
        self.alu(Alu::Mov, dst, operand);
    }

    /// `dst = *(size *)(src + off)`.
    pub fn load(&mut self, size: Size, dst: Reg, src: Reg, off: i16) {
        self.emit(CLASS_LDX | size.bits() | MODE_MEM, dst, src, off, 0);
    }

    /// `*(size *)(dst + off) = operand`.
    pub fn store(&mut self, size: Size, dst: Reg, off: i16, operand: impl Into<Operand>) {
        match operand.into() {
            Operand::Imm(imm) => self.emit(CLASS_ST | size.bits() | MODE_MEM, dst, R0, off, imm),
            Operand::Reg(src) => self.emit(CLASS_STX | size.bits() | MODE_MEM, dst, src, off, 0),
        }
    }

    /// Jumps to `label` when `reg cond operand`.
    pub fn jump_if(&mut self, cond: Cond, reg: Reg, operand: impl Into<Operand>, label: Label) {
        self.jumps.push((self.insns.len(), label));
        match operand.into() {
            Operand::Imm(imm) => self.emit(CLASS_JMP | cond.bits(), reg, R0, 0, imm),
            Operand::Reg(src) => self.emit(CLASS_JMP | cond.bits() | SOURCE_REG, reg, src, 0, 0),
        }
    }

    /// Jumps to `label`.
    pub fn jump(&mut self, label: Label) {
        self.jumps.push((self.insns.len(), label));
        self.emit(CLASS_JMP, R0, R0, 0, 0);
    }

    /// `dst = the map behind descriptor fd` (an instruction of two slots).
    pub fn load_map(&mut self, dst: Reg, fd: i32) {
        self.emit(CLASS_LD | Size::Double.bits(), dst, PSEUDO_MAP_FD, 0, fd);
        self.emit(0, R0, R0, 0, 0);
    }

    /// `r0 = helper(r1 … r5)`.
    pub fn call(&mut self, helper: i32) {
        self.emit(CLASS_JMP | JMP_CALL, R0, R0, 0, helper);
    }

    /// Ends the program with r0 as its verdict.
    pub fn exit(&mut self) {
        self.emit(CLASS_JMP | JMP_EXIT, R0, R0, 0, 0);
    }

    /// The finished program.
    pub fn finish(mut self) -> Result<Vec<Insn>, AsmError> {
        for (at, label) in &self.jumps {
            let target =
                self.labels.get(label.0).copied().flatten().ok_or(AsmError::UnplacedLabel)?;
            // A jump counts from the instruction after itself.
            let distance = target.checked_sub(at + 1).ok_or(AsmError::BadJump)?;
            let off = i16::try_from(distance).map_err(|_| AsmError::BadJump)?;
            if let Some(insn) = self.insns.get_mut(*at) {
                insn.off = off;
            }
        }
        Ok(self.insns)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn encodes_as_the_kernel_headers_do() {
        let mut a = Assembler::new();
        a.mov(R6, R1); // BPF_ALU64 | BPF_MOV | BPF_X
        a.mov(R0, 2); // BPF_ALU64 | BPF_MOV | BPF_K
        a.load(Size::Word, R2, R1, 4); // BPF_LDX | BPF_W | BPF_MEM
        a.store(Size::Half, FP, -8, R5); // BPF_STX | BPF_H | BPF_MEM
        a.store(Size::Double, FP, -24, 0); // BPF_ST | BPF_DW | BPF_MEM
        a.call(51);
        a.exit();
        let p = a.finish().unwrap();
        let codes: Vec<u8> = p.iter().map(|i| i.code).collect();
        assert_eq!(codes, [0xbf, 0xb7, 0x61, 0x6b, 0x7a, 0x85, 0x95]);
        if cfg!(target_endian = "little") {
            assert_eq!(p[0].regs, 0x16);
            assert_eq!(p[3].regs, 0x5a);
        }
        assert_eq!(p[4].off, -24);
        assert_eq!(std::mem::size_of::<Insn>(), 8);
    }

    #[test]
    fn jumps_reach_their_label_from_everywhere() {
        let mut a = Assembler::new();
        let end = a.label();
        a.jump_if(Cond::Gt, R4, R3, end);
        a.jump(end);
        a.load_map(R1, 7);
        a.place(end);
        a.exit();
        let p = a.finish().unwrap();
        assert_eq!((p[0].code, p[0].off), (0x2d, 3));
        assert_eq!((p[1].code, p[1].off), (0x05, 2));
        assert_eq!((p[2].code, p[2].imm), (0x18, 7));
        assert_eq!(p[3].code, 0);
    }

    #[test]
    fn refuses_a_label_that_was_never_placed_and_a_loop() {
        let mut a = Assembler::new();
        let nowhere = a.label();
        a.jump(nowhere);
        assert_eq!(a.finish(), Err(AsmError::UnplacedLabel));

        let mut a = Assembler::new();
        let back = a.label();
        a.place(back);
        a.exit();
        a.jump(back);
        assert_eq!(a.finish(), Err(AsmError::BadJump));
    }
}
