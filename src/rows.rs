//! A list in rows of so many: it grows and shrinks at its end, and no more than a row is
//! moved for that.

/// The list.
#[derive(Clone, Debug)]
pub struct Rows<T, const ROW: usize> {
    /// The first row: few have no other.
    first: Vec<T>,
    others: Vec<Vec<T>>,
    len: usize,
}

impl<T, const ROW: usize> Rows<T, ROW> {
    /// An empty one.
    pub const fn new() -> Self {
        Self { first: Vec::new(), others: Vec::new(), len: 0 }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.len
    }

    /// The one at a place.
    pub fn get(&self, at: usize) -> Option<&T> {
        match (at / ROW).checked_sub(1) {
            None => self.first.get(at),
            Some(row) => self.others.get(row)?.get(at % ROW),
        }
    }

    /// The one at a place, to be changed.
    pub fn get_mut(&mut self, at: usize) -> Option<&mut T> {
        match (at / ROW).checked_sub(1) {
            None => self.first.get_mut(at),
            Some(row) => self.others.get_mut(row)?.get_mut(at % ROW),
        }
    }

    /// All of them, to be changed.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.first.iter_mut().chain(self.others.iter_mut().flatten())
    }

    /// Adds one at the end.
    pub fn push(&mut self, one: T) {
        if self.len >= ROW && self.len.is_multiple_of(ROW) {
            self.others.push(Vec::with_capacity(ROW));
        }
        self.others.last_mut().unwrap_or(&mut self.first).push(one);
        self.len += 1;
    }

    /// Takes out the last one.
    pub fn pop(&mut self) -> Option<T> {
        let row = self.others.last_mut().unwrap_or(&mut self.first);
        let one = row.pop()?;
        if row.is_empty() {
            self.others.pop();
            give_back(&mut self.others);
        }
        if self.others.is_empty() {
            give_back(&mut self.first);
        }
        self.len -= 1;
        Some(one)
    }

    /// Takes out the one at a place, and puts the last one there.
    pub fn swap_remove(&mut self, at: usize) -> Option<T> {
        let last = self.pop()?;
        match self.get_mut(at) {
            Some(one) => Some(std::mem::replace(one, last)),
            None => Some(last),
        }
    }

    /// Bytes on the heap.
    pub fn heap_bytes(&self) -> usize {
        let rows = self.others.iter().map(Vec::capacity).sum::<usize>();
        (self.first.capacity() + rows) * size_of::<T>()
            + self.others.capacity() * size_of::<Vec<T>>()
    }
}

/// Gives back the room of a list that has become much shorter.
fn give_back<T>(list: &mut Vec<T>) {
    if list.len() <= list.capacity() / 4 {
        list.shrink_to(2 * list.len());
    }
}
