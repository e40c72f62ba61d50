//! `non_max_suppression`: the best of boxes that overlap.

use crate::ops::prelude::*;

op! {
    /// Boxes are taken by descending score (of equal ones, the first), for each of B images and C classes, at most
    /// `limit` of them; one is left out whose score is not above `score_threshold`, or whose intersection with a
    /// box that was taken, divided by their union, is above `iou_threshold`.
    ///
    /// `indices` [B C min(limit, N), 3] holds image, class and box of each, in this order, then -1; `count` is how many
    /// there are. Boxes [B, N, 4] are two opposite corners (y, x, y, x), or (x, y, width, height) about a centre.
    /// Scores are [B, C, N]; NaN is above no threshold.
    /// (C1) `boxes` and `scores` have one float dtype and these shapes.
    /// (C2) The thresholds have that dtype and rank 0.
    /// (C3) `limit` is not negative.
    /// (C4) `dtype` is `i32` or `i64`.
    /// Source: ONNX `NonMaxSuppression`.
    non_max_suppression: NonMaxSuppression(boxes, scores, iou_threshold, score_threshold) -> [indices, count] {
        /// Most boxes per image and class.
        limit: Dim,
        /// Boxes about a centre?
        center_point: bool,
        /// Dtype of the results.
        dtype: DType,
    }
}

impl OpSpec for NonMaxSuppression {
    const MEANING: Meaning<Self> = Meaning::primitive(Self::eval);
    const VJP: Vjp<Self> = Vjp::None("its results are discrete");
    const JVP: Jvp<Self> = Jvp::None("its results are discrete");
    const BATCH: Batch<Self> = Batch::None("it packs the boxes of all images");
    const ACCURACY: AccuracyRule<Self> = |_| Accuracy::Exact;
    const SAMPLES: Samples<Self> = Samples::Listed(&[
        "f32[1, 6, 4] in [0, 2), f32[1, 1, 6], f32[] in [0.2, 0.4), f32[] in [-1, 0) \
         {limit = 6, center_point = false, dtype = i64}",
        "f32[2, 5, 4] in [0, 2), f32[2, 3, 5], f32[] in [0.2, 0.4), f32[] in [-1, 0) \
         {limit = 2, center_point = true, dtype = i32}",
        "f64[1, 4, 4] in [0, 2), f64[1, 2, 4], f64[] in [0.2, 0.4), f64[] in [-1, 0) {limit = 9}",
        "f16[1, 3, 4] in [0, 2), f16[1, 1, 3], f16[] in [0.2, 0.4), f16[] in [-1, 0) \
         {limit = 0, dtype = i32}",
        "f32[2, 0, 4] in [0, 2), f32[2, 1, 0], f32[] in [0.2, 0.4), f32[] in [-1, 0) \
         {limit = 2, center_point = true}",
    ]);

    fn infer(&self, operands: &[&TensorType]) -> Inferred {
        let (boxes, scores) = (operands[0], operands[1]);
        same_dtype("C1", &operands[..2])?;
        let float = boxes.dtype.is_float() && !boxes.dtype.is_storage_only();
        let fits = matches!((boxes.shape.dims(), scores.shape.dims()), ([b, n, four], [b2, _, n2])
            if four.is(4) && b == b2 && n == n2);
        require!("C1", float && fits, "`boxes` is {boxes} and `scores` is {scores}");
        let number = TensorType::new(boxes.dtype, Shape::scalar());
        for threshold in &operands[2..] {
            require!("C2", **threshold == number, "expected a threshold of type {number}, found {threshold}");
        }
        check_not_negative("C3", "limit", &self.limit)?;
        let legal = matches!(self.dtype, DType::I32 | DType::I64);
        require!("C4", legal, "expected i32 or i64, found {}", self.dtype);
        let each = self.limit.minimum(&boxes.shape[1]);
        let rows = scores.shape[0].clone() * scores.shape[1].clone() * each;
        let indices = TensorType::new(self.dtype, vec![rows, Dim::from(3)]);
        Ok(vec![indices, TensorType::new(self.dtype, Shape::scalar())])
    }
}

/// Low and high corner.
type Corners = [[f64; 2]; 2];

fn area([low, high]: Corners) -> f64 {
    (high[0] - low[0]).max(0.0) * (high[1] - low[1]).max(0.0)
}

fn overlap(a: Corners, b: Corners) -> f64 {
    let low = [a[0][0].max(b[0][0]), a[0][1].max(b[0][1])];
    let high = [a[1][0].min(b[1][0]), a[1][1].min(b[1][1])];
    let shared = area([low, high]);
    if shared > 0.0 { shared / (area(a) + area(b) - shared) } else { 0.0 }
}

impl NonMaxSuppression {
    fn corners(&self, of: &[f64]) -> Corners {
        let [a, b, c, d] = [of[0], of[1], of[2], of[3]];
        match self.center_point {
            true => [[a - c / 2.0, b - d / 2.0], [a + c / 2.0, b + d / 2.0]],
            false => [[a.min(c), b.min(d)], [a.max(c), b.max(d)]],
        }
    }

    fn eval(&self, operands: &[&Literal]) -> Evaluated {
        let &[images, classes, boxes] = operands[1].dims() else { return Err(Fault("has no scores".into())) };
        let corners: Vec<Corners> =
            operands[0].to_f64s().chunks_exact(4).map(|of| self.corners(of)).collect();
        let all_scores = operands[1].to_f64s();
        let (most_shared, least) = (operands[2].to_f64s()[0], operands[3].to_f64s()[0]);
        let limit = self.limit.as_static().and_then(|limit| usize::try_from(limit).ok());
        let limit = limit.ok_or_else(|| Fault(format!("limit {} is not bound", self.limit)))?.min(boxes);
        let mut found = vec![];
        for (row, class) in (0..images * classes).map(|row| (row, row % classes)) {
            let (image, scores) = (row / classes, &all_scores[row * boxes..][..boxes]);
            let mut order: Vec<usize> = (0..boxes).filter(|&index| scores[index] > least).collect();
            order.sort_by(|&a, &b| scores[b].total_cmp(&scores[a]).then(a.cmp(&b)));
            let mut taken: Vec<Corners> = vec![];
            for index in order {
                let this = corners[image * boxes + index];
                if taken.len() < limit && taken.iter().all(|&other| overlap(this, other) <= most_shared) {
                    taken.push(this);
                    found.extend([image, class, index].map(|at| Number::Int(at as i128)));
                }
            }
        }
        let count = Number::Int((found.len() / 3) as i128);
        let rows = images * classes * limit;
        found.resize(rows * 3, Number::Int(-1));
        let indices = Literal::from_numbers(self.dtype, &[rows, 3], found);
        let count = Literal::from_numbers(self.dtype, &[], [count]);
        [indices, count].into_iter().collect::<Result<_, _>>().map_err(|error| Fault(error.to_string()))
    }
}
