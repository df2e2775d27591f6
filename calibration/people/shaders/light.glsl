// One key light with a shadow map, a fill, a rim and a two-colour sky. All colours linear.
uniform vec3 key_direction, key_colour, sky_colour, ground_colour, fill_direction, fill_colour, rim_direction, rim_colour;
uniform vec3 camera;
uniform mat4 shadow_matrix;
uniform sampler2D shadow_map;

float shadow(vec3 p, vec3 n) {
    vec3 s = (shadow_matrix * vec4(p + n * 0.015, 1)).xyz * 0.5 + 0.5;
    if (max(abs(s.x - .5), abs(s.y - .5)) > .5) return 1.0;  // the map covers head and shoulders
    float lit = 0.0;
    for (int i = -1; i <= 1; i++)
        for (int j = -1; j <= 1; j++)
            lit += (s.z - 0.0025 > texture(shadow_map, s.xy + vec2(i, j) * 1.6 / 1024.0).r) ? 0.0 : 1.0;
    return lit / 9.0;
}

float soft_shadow(vec3 p, vec3 n) {
    vec3 s = (shadow_matrix * vec4(p + n * 0.02, 1)).xyz * 0.5 + 0.5;
    if (max(abs(s.x - .5), abs(s.y - .5)) > .5) return 1.0;  // the map covers head and shoulders
    float lit = 0.0;
    for (int i = 0; i < 2; i++)
        for (int j = 0; j < 2; j++)
            lit += (s.z - 0.006 > texture(shadow_map, s.xy + (vec2(i, j) - 0.5) * 2.5 / 1024.0).r) ? 0.0 : 0.25;
    return lit;
}

// Trowbridge-Reitz lobe (Walter et al. 2007) and Schlick's Fresnel weight (1994).
float ggx(vec3 n, vec3 h, float a) {
    float d = max(dot(n, h), 0.0), a2 = a * a, k = d * d * (a2 - 1.0) + 1.0;
    return a2 / (3.1416 * k * k);
}
float schlick(float x) { return pow(1.0 - clamp(x, 0.0, 1.0), 5.0); }

vec3 surround(vec3 n) {
    float towards_fill = max(dot(n, fill_direction) * 0.5 + 0.5, 0.0);
    return mix(ground_colour, sky_colour, smoothstep(-1.0, 1.0, n.y)) + fill_colour * towards_fill * towards_fill;
}
