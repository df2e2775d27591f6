layout(location = 0) out vec4 albedo_out; layout(location = 1) out vec4 light_out; layout(location = 2) out vec4 gloss_out;
uniform float bump, face_top; uniform vec2 wrinkles; uniform vec3 inner_colour;

// Mikkelsen 2010: the surface gradient from screen-space differences; ``slope`` is the height's change per texel.
vec3 bumped(vec3 n, vec2 slope) {
    vec2 size = vec2(textureSize(skin_relief, 0)), cx = dFdx(UV) * size, cy = dFdy(UV) * size;
    vec3 px = dFdx(P), py = dFdy(P), r1 = cross(py, n), r2 = cross(n, px);
    float det = dot(px, r1);
    vec3 m = abs(det) * n - sign(det) * (dot(slope, cx) * r1 + dot(slope, cy) * r2) * bump;
    return m * inversesqrt(max(dot(m, m), 1e-20));
}

void main() {
    vec3 V = normalize(camera - P), n = N * inversesqrt(max(dot(N, N), 1e-12));
    float ao = AO.x, thin = AO.y, rough = .55, lip = 0., gloss = 1., surface = 2.;
    vec3 albedo = mean_skin, nb = n;
#ifdef CLOTH
    float depth = below_neckline();
    bool dressed = depth > 0.;
#else
    const bool dressed = false;
#endif
    // Class of the surface: 1 face, 2 other skin, 3 eyes, 4 mouth, 7 cloth. The face ends below the hairline on the forehead.
    vec4 a = texture(skin_colour, UV), t = texture(skin_relief, UV), w = texture(skin_folds, UV);
    if (on_head()) {
        albedo = a.rgb * a.rgb; rough = a.a; lip = t.b; gloss = clamp((.97 - rough) * 4., .15, 1.);
        vec2 fold = wrinkles.x * (w.rg - .5) + wrinkles.y * (w.ba - .5);
        nb = bumped(n, (t.rg - .5) + fold);
        // A crease is darker than its surroundings on any skin: its walls shade each other and do not shine.
        float crease = clamp(dot(abs(fold), vec2(7.)), 0., 1.);
        gloss *= 1. - .8 * crease; ao *= 1. - .40 * crease;
        surface = B.y < face_top && t.a > .5 ? 1. : 2.;
    } else if (thin < -.25 || B.y > 7.05) {  // the mouth's inside and the eyes' sockets lie elsewhere in the texture
        albedo = inner_colour; rough = .32; gloss = .4; surface = B.y > 7.05 ? 3. : 4.;
    }
#ifdef CLOTH
    if (dressed) {
        albedo = cloth_colour(depth); nb = cloth_normal(n);
        rough = .85; gloss = .35; surface = 7.; thin = 0.;
        ao *= mix(.7, 1., smoothstep(0., .02, depth));
    } else ao *= mix(.5, 1., smoothstep(0., -.12, depth));
#endif
    thin = max(thin, 0.);
    float lit = shadow(P, n), soft = dressed ? 0. : 1., facing = max(dot(nb, V), .0);
    // Red light scatters further under the skin: softer normals, more wrap and softer shadows for red than for blue.
    float geometric = dot(n, key_direction), detailed = dot(nb, key_direction);
    vec3 cosine = mix(vec3(detailed), vec3(geometric), vec3(.60, .42, .30) * soft), wrap = mix(vec3(.05), vec3(.34, .17, .10), soft);
    vec3 d = clamp((cosine + wrap) / (1. + wrap), 0., 1.);
    d *= .75 + .25 * d;
    vec3 shade = lit * mix(vec3(1), vec3(1.5, 1., .85) + vec3(-.5, 0., .15) * lit, soft);
    vec3 aoc = ao * (mix(vec3(.9), vec3(1.16, .86, .78), soft) + mix(vec3(.1), vec3(-.16, .14, .22), soft) * ao);
    vec3 nl = mix(nb, n, .25 * soft);
    float from_behind = clamp((dot(n, rim_direction) + .15) / 1.15, 0., 1.);
    vec3 light = d * shade * key_colour * (.65 + .35 * aoc) + surround(nl) * aoc + from_behind * rim_colour * aoc;
    // Ears and nostrils glow red where the light stands behind them.
    light += thin * vec3(.85, .20, .10) * (max(-geometric, 0.) * key_colour + max(-dot(n, rim_direction), 0.) * rim_colour) * .32;
    // Two lobes and the environment (Kelemen and Szirmay-Kalos 2001 for the visibility term).
    vec3 H = normalize(key_direction + V);
    float hv = max(dot(H, V), .3), r2 = rough * rough, lambert = clamp(detailed, 0., 1.);
    float lobe = (.80 * ggx(nb, H, r2) + .20 * ggx(nb, H, r2 * .34)) * (.028 + .972 * schlick(hv)) / (4. * hv * hv);
    float edge = schlick(facing), fe = .030 + .30 * edge * (1. - rough * .7);
    vec3 spec = lobe * lambert * lit * key_colour * (1.25 + .5 * lip) + surround(reflect(-V, nb)) * fe * ao * ao * 1.1;
    vec3 Hr = normalize(rim_direction + V); float hr = max(dot(Hr, V), .4);
    spec += rim_colour * ggx(nb, Hr, r2) * (.028 + .972 * schlick(hr)) / (4. * hr) * clamp(dot(nb, rim_direction), 0., 1.) * ao;
    // Vellus hair: a fine bright line along the outline.
    float fuzz = (1. - facing) * (1. - facing) * (1. - facing) * soft * ao * .09;
    spec = spec * gloss + fuzz * albedo * (d * lit * key_colour + 1.6 * from_behind * rim_colour + surround(n));
    albedo_out = vec4(albedo, 1); light_out = vec4(light, soft); gloss_out = vec4(spec, surface);
}
