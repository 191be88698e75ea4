//! Vectors of a small embedding, for the semantic cache.

use super::Random;

/// How many dimensions they have.
pub const DIM: usize = 48;

/// The bytes of a vector.
pub fn bytes(vector: &[f32]) -> Vec<u8> {
    vector.iter().flat_map(|one| one.to_le_bytes()).collect()
}

/// Any vector.
pub fn random(random: &mut Random) -> Vec<f32> {
    (0..DIM).map(|_| random.below(2_001) as f32 / 1_000.0 - 1.0).collect()
}

/// A vector of this cosine to another one: a mix of it and of what is at a right angle to
/// it; of some length.
pub fn at_cosine(one: &[f32], cosine: f64, length: f64, chance: &mut Random) -> Vec<f32> {
    let dot = |one: &[f64], other: &[f64]| one.iter().zip(other).map(|(a, b)| a * b).sum::<f64>();
    let unit = |vector: Vec<f64>| {
        let size = dot(&vector, &vector).sqrt();
        vector.into_iter().map(|one| one / size).collect::<Vec<_>>()
    };
    let wide = |vector: &[f32]| unit(vector.iter().map(|one| f64::from(*one)).collect());
    let (one, other) = (wide(one), wide(&random(chance)));
    let along = dot(&one, &other);
    let across = unit(one.iter().zip(&other).map(|(one, other)| other - along * one).collect());
    let sine = (1.0 - cosine * cosine).sqrt();
    let pairs = one.iter().zip(&across);
    pairs.map(|(one, across)| ((one * cosine + across * sine) * length) as f32).collect()
}

/// The cosine of two vectors.
pub fn cosine(one: &[f32], other: &[f32]) -> f64 {
    let dot = |one: &[f32], other: &[f32]| {
        one.iter().zip(other).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>()
    };
    dot(one, other) / (dot(one, one) * dot(other, other)).sqrt()
}
