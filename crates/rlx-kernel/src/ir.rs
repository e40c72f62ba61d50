//! The kernel IR: structured statements over typed scalars.
//!
//! - Every [`Value`] is defined once, by one [`Statement::Let`] (or a loop counter, or an atomic's result), and is
//!   visible from there to the end of its block. What changes is a [`Variable`](VariableId).
//! - Buffers are typed arrays of one [`Scalar`]; indices are `u32` and count elements. Extents, strides and offsets
//!   that are known only at run time arrive as [`Parameter`]s, one 32-bit word each.
//! - Integer arithmetic wraps. Integer division by zero gives 0, and so does the remainder; `MIN / -1` wraps to `MIN`
//!   with remainder 0. A shift by the width or more gives 0 (an arithmetic right shift: the sign).
//! - `min` and `max` propagate NaN. A cast from float to integer truncates and saturates, NaN gives 0; a cast to bool
//!   is `!= 0`; to a narrower float it rounds to nearest even. `round` is half to even.
//! - Arithmetic on a type narrower than 32 bits is exact arithmetic rounded (or wrapped) to that type.
//!
//! The IR has no early return, so a barrier is reached by all invocations exactly when no divergent branch or loop
//! holds it. It does not model matrix fragments or subgroups.

/// A scalar type.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash, PartialOrd, Ord)]
#[allow(missing_docs)]
pub enum Scalar {
    Bool,
    I8,
    I16,
    I32,
    I64,
    U8,
    U16,
    U32,
    U64,
    F16,
    BF16,
    F32,
    F64,
}

/// How the values of a scalar type are understood.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Class {
    /// True or false, one byte in a buffer.
    Bool,
    /// Two's complement integer.
    Signed,
    /// Unsigned integer.
    Unsigned,
    /// Binary floating point.
    Float,
}

impl Scalar {
    /// Every scalar type.
    pub const ALL: [Scalar; 13] = {
        use Scalar::*;
        [Bool, I8, I16, I32, I64, U8, U16, U32, U64, F16, BF16, F32, F64]
    };

    /// Text name, class and size in bytes: the one table of facts about scalar types.
    const fn facts(self) -> (&'static str, Class, u32) {
        match self {
            Scalar::Bool => ("bool", Class::Bool, 1),
            Scalar::I8 => ("i8", Class::Signed, 1),
            Scalar::I16 => ("i16", Class::Signed, 2),
            Scalar::I32 => ("i32", Class::Signed, 4),
            Scalar::I64 => ("i64", Class::Signed, 8),
            Scalar::U8 => ("u8", Class::Unsigned, 1),
            Scalar::U16 => ("u16", Class::Unsigned, 2),
            Scalar::U32 => ("u32", Class::Unsigned, 4),
            Scalar::U64 => ("u64", Class::Unsigned, 8),
            Scalar::F16 => ("f16", Class::Float, 2),
            Scalar::BF16 => ("bf16", Class::Float, 2),
            Scalar::F32 => ("f32", Class::Float, 4),
            Scalar::F64 => ("f64", Class::Float, 8),
        }
    }

    /// The name in the text form.
    pub const fn name(self) -> &'static str {
        self.facts().0
    }

    /// How its values are understood.
    pub const fn class(self) -> Class {
        self.facts().1
    }

    /// Size of an element in a buffer, in bytes.
    pub const fn bytes(self) -> u32 {
        self.facts().2
    }

    /// True for every floating-point type.
    pub fn is_float(self) -> bool {
        self.class() == Class::Float
    }

    /// True for signed and unsigned integers; bool is neither.
    pub fn is_integer(self) -> bool {
        matches!(self.class(), Class::Signed | Class::Unsigned)
    }
}

/// Declares an operation enum with the text name of each member.
macro_rules! operations {
    ($(#[$doc:meta])* $name:ident { $($(#[$member_doc:meta])* $member:ident = $text:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
        #[allow(missing_docs)]
        pub enum $name { $($(#[$member_doc])* $member),* }
        impl $name {
            /// Every member, in declaration order.
            pub const ALL: &'static [$name] = &[$($name::$member),*];
            /// The name in the text form.
            pub const fn name(self) -> &'static str { match self { $($name::$member => $text),* } }
        }
    };
}

operations! {
    /// A function of one operand; the result has the operand's type.
    UnaryOp {
        Neg = "neg", Abs = "abs", Sign = "sign",
        /// Logical on bool, bitwise on integers.
        Not = "not",
        Floor = "floor", Ceil = "ceil", Trunc = "trunc",
        /// To nearest, ties to even.
        Round = "round",
        Sqrt = "sqrt", Rsqrt = "rsqrt", Exp = "exp", Expm1 = "expm1", Log = "log", Log1p = "log1p",
        Sin = "sin", Cos = "cos", Tan = "tan", Asin = "asin", Acos = "acos", Atan = "atan",
        Sinh = "sinh", Cosh = "cosh", Tanh = "tanh", Asinh = "asinh", Acosh = "acosh", Atanh = "atanh",
        Erf = "erf",
    }
}

operations! {
    /// A function of two operands of one type; a comparison gives bool, every other that type.
    BinaryOp {
        Add = "add", Sub = "sub", Mul = "mul", Div = "div",
        /// Remainder with the sign of the dividend.
        Rem = "rem",
        Min = "min", Max = "max", Pow = "pow", Atan2 = "atan2",
        And = "and", Or = "or", Xor = "xor", Shl = "shl", Shr = "shr",
        Eq = "eq", Ne = "ne", Lt = "lt", Le = "le", Gt = "gt", Ge = "ge",
    }
}

operations! {
    /// An atomic read-modify-write on an `i32` or `u32` element; the result is the old value.
    AtomicOp {
        /// Reads and keeps the element; the operand is ignored.
        Load = "load",
        Add = "add", Min = "min", Max = "max", And = "and", Or = "or", Xor = "xor", Exchange = "exchange",
    }
}

impl UnaryOp {
    /// True for the functions that take floats only.
    pub fn is_float_only(self) -> bool {
        !matches!(self, UnaryOp::Neg | UnaryOp::Abs | UnaryOp::Sign | UnaryOp::Not)
    }
}

impl BinaryOp {
    /// True for the operations that give bool.
    pub fn is_comparison(self) -> bool {
        use BinaryOp::*;
        matches!(self, Eq | Ne | Lt | Le | Gt | Ge)
    }
}

/// Declares an index newtype.
macro_rules! handles {
    ($($(#[$doc:meta])* $name:ident),* $(,)?) => {
        $($(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Debug, Hash, PartialOrd, Ord)]
        pub struct $name(pub u32);
        impl $name {
            /// The position in the kernel's list.
            pub fn index(self) -> usize { self.0 as usize }
        })*
    };
}

handles! {
    /// A value that never changes once defined.
    Value,
    /// A mutable local of one invocation.
    VariableId,
    /// A buffer of [`Kernel::buffers`].
    BufferId,
    /// A workgroup array of [`Kernel::arrays`].
    ArrayId,
    /// A run-time word of [`Kernel::parameters`].
    ParameterId,
}

/// What a kernel may do with a buffer.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash, PartialOrd, Ord)]
pub enum Access {
    /// Loads only.
    Read,
    /// Loads, stores and atomics.
    ReadWrite,
}

/// A buffer argument. Its length is known at launch.
#[derive(Clone, PartialEq, Eq, Debug, Hash)]
pub struct Buffer {
    /// Unique identifier.
    pub name: String,
    /// Element type.
    pub element: Scalar,
    /// What the kernel may do with it.
    pub access: Access,
}

/// An array shared by the invocations of one workgroup. It starts unwritten.
#[derive(Clone, PartialEq, Eq, Debug, Hash)]
pub struct WorkgroupArray {
    /// Unique identifier.
    pub name: String,
    /// Element type.
    pub element: Scalar,
    /// Number of elements.
    pub length: u32,
}

/// A mutable local. It starts unwritten.
#[derive(Clone, PartialEq, Eq, Debug, Hash)]
pub struct Variable {
    /// Unique identifier.
    pub name: String,
    /// Its type.
    pub ty: Scalar,
}

/// A run-time word: `u32`, `i32` or `f32`.
#[derive(Clone, PartialEq, Eq, Debug, Hash)]
pub struct Parameter {
    /// Unique identifier.
    pub name: String,
    /// Its type, 32 bits wide.
    pub ty: Scalar,
}

/// A constant: a type and its bits in the low end of a word.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub struct Literal {
    /// Its type.
    pub ty: Scalar,
    /// The bits as stored in a buffer, zero-extended.
    pub bits: u64,
}

/// An index that the launch provides, `u32`, for axis 0, 1 or 2.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum Builtin {
    /// Position in the workgroup.
    LocalId(u8),
    /// Position of the workgroup in the grid.
    GroupId(u8),
    /// Number of workgroups in the grid.
    GroupCount(u8),
}

/// Memory that an index selects from.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum Place {
    /// A buffer argument.
    Buffer(BufferId),
    /// A workgroup array.
    Array(ArrayId),
}

/// What a `Let` computes.
#[derive(Clone, PartialEq, Eq, Debug, Hash)]
pub enum Expr {
    /// A constant.
    Constant(Literal),
    /// A run-time word.
    Parameter(ParameterId),
    /// A launch index.
    Builtin(Builtin),
    /// The present value of a variable.
    Get(VariableId),
    /// An element of a buffer or array.
    Load(Place, Value),
    /// A function of one operand.
    Unary(UnaryOp, Value),
    /// A function of two operands.
    Binary(BinaryOp, Value, Value),
    /// Second operand where the first (bool) is true, else the third. All are evaluated.
    Select(Value, Value, Value),
    /// Conversion of the value.
    Cast(Scalar, Value),
    /// The same bits as a type of the same size.
    Bitcast(Scalar, Value),
}

impl Expr {
    /// The values that the expression reads.
    pub fn operands(&self) -> Vec<Value> {
        match *self {
            Expr::Constant(_) | Expr::Parameter(_) | Expr::Builtin(_) | Expr::Get(_) => Vec::new(),
            Expr::Load(_, a) | Expr::Unary(_, a) | Expr::Cast(_, a) | Expr::Bitcast(_, a) => vec![a],
            Expr::Binary(_, a, b) => vec![a, b],
            Expr::Select(a, b, c) => vec![a, b, c],
        }
    }

    /// The same expression with every operand replaced.
    pub fn map(&self, mut f: impl FnMut(Value) -> Value) -> Expr {
        match *self {
            Expr::Load(place, a) => Expr::Load(place, f(a)),
            Expr::Unary(op, a) => Expr::Unary(op, f(a)),
            Expr::Cast(ty, a) => Expr::Cast(ty, f(a)),
            Expr::Bitcast(ty, a) => Expr::Bitcast(ty, f(a)),
            Expr::Binary(op, a, b) => Expr::Binary(op, f(a), f(b)),
            Expr::Select(a, b, c) => Expr::Select(f(a), f(b), f(c)),
            ref leaf => leaf.clone(),
        }
    }
}

/// Statements in order.
pub type Block = Vec<Statement>;

/// What a barrier orders. Every barrier also joins the invocations of the workgroup.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum Fence {
    /// Accesses to workgroup arrays.
    Arrays,
    /// Accesses to workgroup arrays and to buffers, within the workgroup.
    Everything,
}

/// One step of a kernel.
#[derive(Clone, PartialEq, Eq, Debug, Hash)]
pub enum Statement {
    /// Defines a value.
    Let(Value, Expr),
    /// Assigns a variable.
    Set(VariableId, Value),
    /// Writes an element: place, index, value.
    Store(Place, Value, Value),
    /// An atomic on an element.
    Atomic {
        /// Receives the old value.
        result: Value,
        /// What is done.
        op: AtomicOp,
        /// The memory.
        place: Place,
        /// The element.
        index: Value,
        /// The operand.
        value: Value,
    },
    /// Writes `value` where the element's bits equal `expected`'s; `result` receives the old value.
    CompareExchange {
        /// Receives the old value.
        result: Value,
        /// The memory.
        place: Place,
        /// The element.
        index: Value,
        /// What the element must hold.
        expected: Value,
        /// What it then becomes.
        value: Value,
    },
    /// Runs one of two blocks.
    If(Value, Block, Block),
    /// Counts a `u32` from `start` while it is below `end`, by `step` (not 0).
    For {
        /// The counter, visible in the body.
        counter: Value,
        /// First value.
        start: Value,
        /// Bound, exclusive.
        end: Value,
        /// Increment.
        step: Value,
        /// What is repeated.
        body: Block,
    },
    /// Repeats `header`, then `body` while `condition` (defined in the header) holds.
    While {
        /// Runs before each test.
        header: Block,
        /// The test.
        condition: Value,
        /// Runs after a test that held.
        body: Block,
    },
    /// Waits for all invocations of the workgroup.
    Barrier(Fence),
}

/// One kernel.
#[derive(Clone, PartialEq, Eq, Debug, Hash)]
pub struct Kernel {
    /// Identifier.
    pub name: String,
    /// Invocations along each axis of a workgroup.
    pub workgroup: [u32; 3],
    /// Buffer arguments, in binding order.
    pub buffers: Vec<Buffer>,
    /// Workgroup arrays.
    pub arrays: Vec<WorkgroupArray>,
    /// Run-time words, in order.
    pub parameters: Vec<Parameter>,
    /// Mutable locals.
    pub variables: Vec<Variable>,
    /// The type of each value.
    pub types: Vec<Scalar>,
    /// What each invocation does.
    pub body: Block,
}

impl Kernel {
    /// Invocations in a workgroup.
    pub fn invocations(&self) -> u32 {
        self.workgroup.iter().product()
    }

    /// The type of a value; `None` for a handle that this kernel does not have.
    pub fn type_of(&self, value: Value) -> Option<Scalar> {
        self.types.get(value.index()).copied()
    }

    /// The element type of a place; `None` for a handle that this kernel does not have.
    pub fn element_of(&self, place: Place) -> Option<Scalar> {
        match place {
            Place::Buffer(id) => self.buffers.get(id.index()).map(|buffer| buffer.element),
            Place::Array(id) => self.arrays.get(id.index()).map(|array| array.element),
        }
    }

    /// Workgroup memory in bytes, each element in its buffer size.
    pub fn workgroup_bytes(&self) -> u64 {
        self.arrays.iter().map(|array| u64::from(array.length) * u64::from(array.element.bytes())).sum()
    }

    /// Calls `visit` on every statement, outer before inner.
    pub fn visit<'a>(&'a self, visit: &mut dyn FnMut(&'a Statement)) {
        visit_block(&self.body, visit);
    }
}

fn visit_block<'a>(block: &'a Block, visit: &mut dyn FnMut(&'a Statement)) {
    for statement in block {
        visit(statement);
        match statement {
            Statement::If(_, then, otherwise) => {
                visit_block(then, visit);
                visit_block(otherwise, visit);
            }
            Statement::For { body, .. } => visit_block(body, visit),
            Statement::While { header, body, .. } => {
                visit_block(header, visit);
                visit_block(body, visit);
            }
            _ => {}
        }
    }
}
