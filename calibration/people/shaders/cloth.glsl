#define CLOTH
// Folds, weave, pattern and collar of the clothes. Compiled into the program of the body only: software rendering runs
// both sides of every branch.
float folds(vec3 q) { return value_noise(q) + .5 * value_noise(q * 2.3); }

vec3 cloth_colour(float depth) {
    float kind = cloth_kind.x, garment = cloth_kind.y, weave = value_noise(B * 110.) * .20 + value_noise(B * 3.) * .06 + .82;
    vec3 c = cloth;
    float a = smoothstep(.42, .5, abs(fract(B.y * 3.1) - .5)), across = smoothstep(.40, .5, abs(fract(B.x * 2.6) - .5));
    if (kind == 1.) c = mix(c, cloth_second, smoothstep(.22, .26, abs(fract(B.y * 2.2) - .5)));
    if (kind == 2.) c = mix(c, cloth_second, .45 * (a + across));
    if (kind == 3.) weave *= .82 + .25 * cos(B.x * 95.);
    // A seam along the neck, a shirt's or a hood's edge, a row of buttons.
    float band = garment == 2. ? .16 : garment == 3. ? .05 : .07;
    // A shirt's collar lies on the cloth: its wings end in points and throw a soft shadow.
    if (garment == 2.) band += .15 * max(0., 1. - abs(abs(B.x) - .19) / .15) * smoothstep(.3, .7, B.z);
    float seam = smoothstep(band + .012, band, depth), beyond = depth - band;
    if (garment == 2.) weave *= (1. - .5 * smoothstep(.09, .0, beyond) * step(0., beyond)) * (1. + .06 * seam);
    if (garment == 2. || garment == 3.) c = mix(c, mix(cloth, cloth_second, garment == 3. ? .5 : .12), seam);
    else weave *= mix(1., .88 + .14 * cos(atan(B.x, B.z - .15) * 160.), seam);
    weave *= 1. - .35 * smoothstep(.008, .0, abs(depth - band));
    float placket = smoothstep(.012, .006, abs(abs(B.x) - .055)) * step(.3, B.z);
    float button = smoothstep(.028, .022, length(vec2(B.x, (fract(B.y * 2.4) - .5) / 2.4))) * step(.3, B.z);
    if (garment == 2.) { weave *= 1. - .3 * placket; c = mix(c, vec3(.5, .48, .45), button); }
    return c * weave * mix(.72, 1., smoothstep(.0, .04, depth));
}
vec3 cloth_normal(vec3 n) {
    float e = .02; vec3 q = B * vec3(3.2, 2.0, 3.2); float h0 = folds(q);
    vec3 g = vec3(folds(q + vec3(e, 0, 0)) - h0, folds(q + vec3(0, e, 0)) - h0, folds(q + vec3(0, 0, e)) - h0) / e;
    return normalize(n - .26 * (g - n * dot(g, n)));
}
