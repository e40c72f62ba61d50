"""Golden data of Gaussian splatting. Oracle: a loop over the pixels and splats in NumPy for the images, written after
the paper, with SciPy's rotations and harmonics from associated Legendre polynomials; JAX's derivative of the same
loop for the gradients.

python recipes/golden_splat.py   (numpy 2, scipy 1.17, jax 0.10)
"""

import math

import jax
import jax.numpy as jnp
import numpy as np
from golden import Golden
from scipy.spatial.transform import Rotation
from scipy.special import lpmv

jax.config.update("jax_enable_x64", True)
rng = np.random.default_rng(37)
golden = Golden()
SCENE = dict(width=7, height=5, tile_size=4, near=0.2)
IMAGE = dict(alpha_cutoff=1 / 255, transmittance_threshold=1e-4)


def harmonics_of(direction, degree):
    """Real harmonics from the definition: m = -l .. l, without the Condon-Shortley phase of `lpmv` but with the
    source's own sign (-1)^m."""
    x, y, z = np.asarray(direction)
    azimuth, values = math.atan2(y, x), []
    for l in range(degree + 1):
        for m in range(-l, l + 1):
            k = abs(m)
            norm = math.sqrt((2 * l + 1) / (4 * math.pi) * math.factorial(l - k) / math.factorial(l + k))
            legendre = lpmv(k, l, z)
            turn = 1.0 if m == 0 else math.sqrt(2) * (math.cos(k * azimuth) if m > 0 else math.sin(k * azimuth))
            values.append(norm * legendre * turn)
    return np.array(values)


def matrix_of(q):
    """The rotation of a quaternion, in JAX; checked against SciPy below."""
    x, y, z, w = q / jnp.linalg.norm(q)
    return jnp.array([[1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
                      [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
                      [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)]])


def project(position, log_scale, rotation, view, intrinsics):
    fx, fy, cx, cy = intrinsics
    x, y, z = view[:3, :3] @ position + view[:3, 3]
    u, v = x / z, y / z
    half_u, half_v = 1.3 * SCENE["width"] / 2 / fx, 1.3 * SCENE["height"] / 2 / fy
    cu, cv = jnp.clip(u, -half_u, half_u), jnp.clip(v, -half_v, half_v)
    jacobian = jnp.array([[fx / z, 0, -fx * cu / z], [0, fy / z, -fy * cv / z]])
    turn = matrix_of(rotation)
    sigma = turn @ jnp.diag(jnp.exp(2 * log_scale)) @ turn.T
    covariance = jacobian @ view[:3, :3] @ sigma @ view[:3, :3].T @ jacobian.T + 0.3 * jnp.eye(2)
    return jnp.array([fx * u + cx, fy * v + cy]), covariance, z


def lists_of(projected):
    """Per tile the splats that reach it, nearest first."""
    size, lists = SCENE["tile_size"], []
    for top in range(0, SCENE["height"], size):
        for left in range(0, SCENE["width"], size):
            seen = []
            for number, (mean, covariance, depth) in enumerate(projected):
                radius = math.ceil(3 * math.sqrt(np.linalg.eigvalsh(covariance)[-1]))
                inside = all(mean[a] - radius < low + size and mean[a] + radius > low for a, low in enumerate((left, top)))
                if depth > SCENE["near"] and inside:
                    seen.append((float(depth), number))
            lists.append([number for _, number in sorted(seen)])
    return lists


def render(positions, log_scales, rotations, opacity_logits, view, intrinsics, colours, lists):
    splats = [project(positions[i], log_scales[i], rotations[i], view, intrinsics) for i in range(len(positions))]
    rows = []
    across = -(-SCENE["width"] // SCENE["tile_size"])
    for row in range(SCENE["height"]):
        line = []
        for column in range(SCENE["width"]):
            seen = lists[row // SCENE["tile_size"] * across + column // SCENE["tile_size"]]
            colour, through, stopped = jnp.zeros(3), 1.0, False
            for i in seen:
                mean, covariance, _ = splats[i]
                d = jnp.array([column + 0.5, row + 0.5]) - mean
                fall = jnp.exp(-0.5 * d @ jnp.linalg.inv(covariance) @ d)
                alpha = jnp.minimum(0.99, fall / (1 + jnp.exp(-opacity_logits[i])))
                alpha = jnp.where(alpha < IMAGE["alpha_cutoff"], 0.0, alpha)
                after = through * (1 - alpha)
                stopped = jnp.logical_or(stopped, after < IMAGE["transmittance_threshold"])
                colour = colour + jnp.where(stopped, 0.0, alpha * through) * colours[i]
                through = jnp.where(stopped, through, after)
            line.append(jnp.concatenate([colour, jnp.array([1 - through])]))
        rows.append(jnp.stack(line))
    return jnp.stack(rows)


for count, degree, opaque in ((6, 3, 0.0), (9, 1, 4.0)):
    positions, log_scales = rng.uniform(-1, 1, (count, 3)), rng.uniform(-2.5, -0.8, (count, 3))
    rotations, logits = rng.normal(size=(count, 4)), rng.normal(size=count) + opaque
    view = np.eye(4)
    view[:3, :3] = Rotation.from_rotvec(rng.normal(size=3) * 0.2).as_matrix()
    view[:3, 3] = [0.1, -0.2, 1.3]
    positions[0] = view[:3, :3].T @ (np.array([0.1, 0.1, -1.0]) - view[:3, 3])
    intrinsics = np.array([5.0, 4.5, 3.4, 2.6])
    colours = rng.uniform(0, 1, (count, 3))
    harmonics = rng.normal(size=(count, (degree + 1) ** 2, 3)) * 0.3
    for rotation in rotations:
        np.testing.assert_allclose(matrix_of(rotation), Rotation.from_quat(rotation).as_matrix(), atol=1e-12)
    projected = [tuple(map(np.asarray, project(*of, view, intrinsics)))
                 for of in zip(positions, log_scales, rotations)]
    lists = lists_of(projected)
    eye = -view[:3, :3].T @ view[:3, 3]
    basis = [harmonics_of((p - eye) / np.linalg.norm(p - eye), degree) for p in positions]
    shaded = np.maximum(0, colours + np.stack([b @ sh for b, sh in zip(basis, harmonics)]))
    scene = [positions, log_scales, rotations, logits, view, intrinsics]
    # The colours come through the whole op; what stands alone is compared through it.
    image = np.asarray(render(*scene, shaded, lists))
    golden.case("gaussian_splat_render", scene + [colours, harmonics], image, **SCENE, **IMAGE, colours=True, harmonics=True)
    dimage = rng.normal(size=image.shape)
    loss = lambda *operands: jnp.sum(render(*operands, lists) * dimage)
    gradients = jax.grad(loss, argnums=tuple(range(7)))(*scene, colours)
    golden.case("gaussian_splat_render_backward", scene + [dimage, colours], [np.asarray(g) for g in gradients], **SCENE,
                **IMAGE, colours=True)
    seen = [i for i, (_, _, depth) in enumerate(projected) if depth > SCENE["near"]]
    assert seen != list(range(count)) and sum(map(len, lists)) > count
    # Behind the camera a splat is put anywhere, so only those before it are compared, with all their lists.
    scene = [np.ascontiguousarray(x[seen]) for x in (positions, log_scales, rotations, logits)] + [view, intrinsics]
    projected = [projected[i] for i in seen]
    lists = lists_of(projected)
    rows = []
    for (mean, covariance, _), logit, colour in zip(projected, scene[3], colours[seen]):
        inverse = np.linalg.inv(covariance)
        rows.append([*mean, inverse[0, 0], inverse[0, 1], inverse[1, 1], 1 / (1 + np.exp(-logit)), *colour])
    counts = np.array([len(tile) for tile in lists], np.int32)
    rest = [[i for i in range(len(seen)) if i not in tile] for tile in lists]
    full = np.array([tile + others for tile, others in zip(lists, rest)], np.int32)
    splats = np.array(rows)
    golden.case("gaussian_splat_prepare", scene + [colours[seen]], [splats, full, counts], **SCENE, colours=True)
    image = render(*scene, colours[seen], lists)
    golden.case("gaussian_splat_rasterize", [splats, full, counts], np.asarray(image),
                **{name: SCENE[name] for name in ("width", "height", "tile_size")}, **IMAGE)
golden.write("crates/rlx-ir/tests/golden/splat.rlx")
